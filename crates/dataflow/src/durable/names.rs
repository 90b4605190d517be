//! What queues and batches of durable edges are called.

use sheaf_proto::BatchId;

/// Characters of what identifiers begin with; longer ones are cut, and get a digest.
const MAX_BEGINNING: usize = 130;
/// Characters that are left of a longer one.
const SHOWN: usize = 90;

/// The queue of what one instance of a reader gets over an edge.
pub(crate) fn queue(pipeline: &str, edge: &str, to: u32) -> String {
    format!("{pipeline}:{edge}:{to}")
}

/// The queue with what an instance has to remember.
pub(crate) fn journal(place: &str) -> String {
    format!("{place}:journal")
}

/// One stream of an edge.
#[derive(Clone, Debug)]
pub(crate) struct StreamName {
    beginning: String,
    from: u32,
    to: u32,
}

/// What a batch of a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows.
    Rows,
    /// No more come from this sender in this pass, of a pipeline of this graph.
    End { pass: u64, graph: u64 },
}

impl StreamName {
    pub(crate) fn new(pipeline: &str, edge: &str, from: u32, to: u32) -> Self {
        let whole = format!("{pipeline}:{edge}");
        let beginning = if whole.len() > MAX_BEGINNING {
            let digest = twox_hash::XxHash3_128::oneshot(whole.as_bytes());
            let shown: String = whole.chars().take(SHOWN).collect();
            format!("{shown}.{digest:032x}")
        } else {
            whole
        };
        StreamName { beginning, from, to }
    }

    /// A batch: another one with each number of each process.
    pub(crate) fn batch(&self, epoch: u64, number: u64) -> Option<BatchId> {
        let StreamName { beginning, from, to } = self;
        BatchId::try_new(&format!("{beginning}:{from}-{to}:{epoch:016x}:{number}")).ok()
    }

    /// The end of the stream in a pass: there is one. In a pipeline of another graph its sender
    /// goes on, and has an end of its own.
    pub(crate) fn end(&self, pass: u64, graph: u64) -> Option<BatchId> {
        let StreamName { beginning, from, to } = self;
        BatchId::try_new(&format!("{beginning}:{from}-{to}:end:{pass}.{graph:x}")).ok()
    }
}

/// Which instance sent a batch, and what it is; `None` for what is none of a durable edge.
pub(crate) fn read(id: &BatchId) -> Option<(u32, Kind)> {
    let mut parts = id.as_str().rsplitn(4, ':');
    let (number, epoch, ends) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let (from, to) = ends.split_once('-')?;
    to.parse::<u32>().ok()?;
    let kind = match epoch {
        "end" => {
            let (pass, graph) = number.split_once('.').unwrap_or((number, "0"));
            let graph = u64::from_str_radix(graph, 16).ok()?;
            Kind::End { pass: pass.parse().ok()?, graph }
        }
        _ => {
            number.parse::<u64>().ok()?;
            u64::from_str_radix(epoch, 16).ok().map(|_| Kind::Rows)?
        }
    };
    Some((from.parse().ok()?, kind))
}

/// An offset in a journal.
pub(crate) fn offset(place: &str, epoch: u64, number: u64) -> Option<BatchId> {
    BatchId::try_new(&format!("{place}:at:{epoch:016x}:{number}")).ok()
}

/// Whether it is one.
pub(crate) fn is_offset(id: &BatchId) -> bool {
    id.as_str().rsplit(':').nth(2) == Some("at")
}

/// That an instance is done with a pass, of a pipeline of this graph.
pub(crate) fn done(place: &str, pass: u64, graph: u64) -> Option<BatchId> {
    BatchId::try_new(&format!("{place}:done:{pass}.{graph:x}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_named_reads_back() {
        for part in ["a", &"x".repeat(63)] {
            let edge = format!("{part}:{part}");
            let name = StreamName::new(part, &edge, 7, 1_000);
            let batch = name.batch(u64::MAX, u64::MAX).unwrap();
            assert_eq!(read(&batch), Some((7, Kind::Rows)));
            let end = Kind::End { pass: 3, graph: u64::MAX };
            assert_eq!(read(&name.end(3, u64::MAX).unwrap()), Some((7, end)));
            let place = format!("{part}:{part}.999");
            assert!(is_offset(&offset(&place, u64::MAX, u64::MAX).unwrap()));
            assert!(!is_offset(&done(&place, u64::MAX, u64::MAX).unwrap()));
        }
    }

    #[test]
    fn long_names_that_begin_alike_are_two() {
        let long = "x".repeat(63);
        let of = |to: &str| {
            let edge = format!("{long}:{to}");
            StreamName::new(&long, &edge, 0, 0).batch(1, 1).unwrap()
        };
        assert_ne!(of(&format!("{}a", "y".repeat(62))), of(&format!("{}b", "y".repeat(62))));
    }

    #[test]
    fn what_others_named_is_none_of_ours() {
        for other in ["orders:1", "a:b:c:d", "p:a:b:0-x:00:1", "019abc", "p:a:b:0-1:end:x"] {
            assert_eq!(read(&other.parse().unwrap()), None, "{other}");
        }
    }
}
