//! Which node of a cluster has which slots.

use std::net::SocketAddr;

use super::Reply;

/// Slots of a cluster.
pub(super) const SLOTS: u16 = 16_384;

/// Slots that one primary has, and who has copies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) primary: SocketAddr,
    pub(super) replicas: Vec<SocketAddr>,
}

/// Reads the answer of `CLUSTER SLOTS`, in the order of slots; `None` while a
/// node does not know everybody's address.
pub(super) fn parse(reply: &Reply) -> Option<Vec<Range>> {
    let mut ranges = reply.items().iter().map(range).collect::<Option<Vec<_>>>()?;
    ranges.sort();
    Some(ranges)
}

fn range(reply: &Reply) -> Option<Range> {
    let [first, last, primary, replicas @ ..] = reply.items() else { return None };
    let slot = |reply: &Reply| u16::try_from(reply.integer()?).ok();
    let mut replicas = replicas.iter().map(node).collect::<Option<Vec<_>>>()?;
    replicas.sort();
    Some(Range { first: slot(first)?, last: slot(last)?, primary: node(primary)?, replicas })
}

fn node(reply: &Reply) -> Option<SocketAddr> {
    let [ip, port, ..] = reply.items() else { return None };
    Some(SocketAddr::new(ip.text()?.parse().ok()?, u16::try_from(port.integer()?).ok()?))
}

/// Whether these ranges are all slots, each once.
pub(super) fn are_all(ranges: &[Range]) -> bool {
    let end = ranges.iter().try_fold(0, |next, range| {
        (range.first == next && range.last >= range.first).then_some(range.last + 1)
    });
    end == Some(SLOTS)
}

/// The slots of the primary with this number of so many, as even as they can be.
pub(super) fn share(number: u16, of: u16) -> (u16, u16) {
    let from = |number: u16| u32::from(number) * u32::from(SLOTS) / u32::from(of);
    let slot = |slot: u32| u16::try_from(slot).unwrap_or(SLOTS);
    (slot(from(number)), slot(from(number + 1) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(first: i64, last: i64, ports: &[i64]) -> Reply {
        let node = |port: &i64| {
            Reply::Array(vec![Reply::Bulk(b"127.0.0.1".into()), Reply::Integer(*port), Reply::Nil])
        };
        let slots = [Reply::Integer(first), Reply::Integer(last)];
        Reply::Array(slots.into_iter().chain(ports.iter().map(node)).collect())
    }

    #[test]
    fn ranges_are_read_in_order_with_their_nodes() {
        let reply = Reply::Array(vec![entry(8000, 16383, &[3, 5, 4]), entry(0, 7999, &[1])]);
        let ranges = parse(&reply).unwrap();
        assert_eq!((ranges[0].first, ranges[0].primary.port()), (0, 1));
        let replicas: Vec<_> = ranges[1].replicas.iter().map(SocketAddr::port).collect();
        assert_eq!((ranges[1].last, replicas), (16383, vec![4, 5]));
        assert!(are_all(&ranges));
        assert!(!are_all(&ranges[..1]) && !are_all(&ranges[1..]) && !are_all(&[]));
        assert_eq!(parse(&Reply::Array(vec![entry(0, 1, &[])])), None);
    }

    #[test]
    fn shares_are_all_slots() {
        assert_eq!(
            [0, 1, 2].map(|number| share(number, 3)),
            [(0, 5460), (5461, 10921), (10922, 16383)]
        );
    }
}
