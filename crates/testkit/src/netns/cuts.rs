//! Who does not reach whom.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The interface of the bridge that a node is at.
pub(super) fn port(node: usize, size: usize) -> String {
    if node == size { "host".to_owned() } else { format!("n{node}") }
}

/// Directed pairs of nodes of which the first one's packets do not arrive at the second.
/// Nodes that it does not name reach everybody; the test is a node like others, which
/// only those cut that name it.
///
/// ```
/// use sheaf_testkit::netns::Cuts;
///
/// let cuts = Cuts::isolate(0, 3);
/// assert!(cuts.has(0, 1) && cuts.has(2, 0) && !cuts.has(1, 2));
/// assert!(Cuts::one_way(0, 1).has(0, 1) && !Cuts::one_way(0, 1).has(1, 0));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts(BTreeSet<(usize, usize)>);

impl Cuts {
    /// None at all.
    pub fn none() -> Self {
        Cuts::default()
    }

    /// Nothing from the first arrives at the second; what the second sends does.
    pub fn one_way(from: usize, to: usize) -> Self {
        Cuts(BTreeSet::from([(from, to)]))
    }

    /// Between two nodes, in both directions.
    pub fn between(one: usize, other: usize) -> Self {
        Cuts::one_way(one, other).and(Cuts::one_way(other, one))
    }

    /// Between one node and the others of so many.
    pub fn isolate(node: usize, size: usize) -> Self {
        Cuts::where_not(size, |one, other| one != node && other != node)
    }

    /// Between nodes of different groups; who is in no group reaches everybody.
    pub fn partition(groups: &[&[usize]]) -> Self {
        let mut cuts = Cuts::none();
        for (index, group) in groups.iter().enumerate() {
            for other in &groups[index + 1..] {
                let pairs = group.iter().flat_map(|one| other.iter().map(|other| (*one, *other)));
                cuts = pairs.fold(cuts, |cuts, (one, other)| cuts.and(Cuts::between(one, other)));
            }
        }
        cuts
    }

    /// Two halves of the nodes that do not reach each other, and a node between them that
    /// reaches all.
    pub fn bridge(middle: usize, size: usize) -> Self {
        let place = |node: usize| (node + size - middle) % size;
        // Of the others, which count from 1, the first half are on one side.
        let side = |node: usize| 2 * place(node) <= size;
        Cuts::where_not(size, |one, other| {
            one == middle || other == middle || side(one) == side(other)
        })
    }

    /// Every node reaches a majority, itself included: those beside it in a ring. No two
    /// reach the same, unless there are fewer than five nodes.
    pub fn majorities_ring(size: usize) -> Self {
        // As many on either side of itself.
        let reach = (size / 2).div_ceil(2);
        Cuts::where_not(size, |one, other| {
            let apart = one.abs_diff(other);
            apart.min(size - apart) <= reach
        })
    }

    /// These and those.
    #[must_use]
    pub fn and(mut self, others: Cuts) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether nothing of the first arrives at the second.
    pub fn has(&self, from: usize, to: usize) -> bool {
        self.0.contains(&(from, to))
    }

    fn where_not(size: usize, reaches: impl Fn(usize, usize) -> bool) -> Self {
        let pairs = (0..size).flat_map(|one| (0..size).map(move |other| (one, other)));
        Cuts(pairs.filter(|(one, other)| one != other && !reaches(*one, *other)).collect())
    }

    pub(super) fn assert_within(&self, size: usize) {
        let outside = self.0.iter().find(|(from, to)| *from > size || *to > size);
        assert!(outside.is_none(), "the cut {outside:?} is not of {size} nodes and the test");
    }

    /// For `nft -f`: replaces what was before in one step.
    pub(super) fn rules(&self, size: usize) -> String {
        // A table has to be there to be deleted.
        let mut rules = "table bridge sheaf\ndelete table bridge sheaf\ntable bridge sheaf {\n\
             chain cuts {\ntype filter hook forward priority 0; policy accept;\n\
             ether type arp accept\n"
            .to_owned();
        for (from, to) in &self.0 {
            let (from, to) = (port(*from, size), port(*to, size));
            // Writing to a string cannot fail.
            _ = writeln!(rules, "iifname \"{from}\" oifname \"{to}\" drop");
        }
        rules + "}\n}\n"
    }
}

/// For `nft -f`: of so many nodes each loses so many of 100 packets to another; what
/// the test sends and is sent arrives.
pub(super) fn loss(percent: u8, size: usize) -> String {
    let host = port(size, size);
    // Behind the cuts: what they drop needs not be lost.
    format!(
        "table bridge sheaf_loss\ndelete table bridge sheaf_loss\n\
         table bridge sheaf_loss {{\nchain loss {{\n\
         type filter hook forward priority 1; policy accept;\n\
         ether type arp accept\niifname \"{host}\" accept\noifname \"{host}\" accept\n\
         numgen random mod 100 < {percent} drop\n}}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom each node reaches, as `01 1 2`.
    fn reach(cuts: &Cuts, size: usize) -> String {
        let of = |from: usize| -> String {
            (0..size).filter(|to| !cuts.has(from, *to)).map(|to| to.to_string()).collect()
        };
        (0..size).map(of).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn shapes_of_partitions_are_what_they_are_called() {
        assert_eq!(reach(&Cuts::none(), 3), "012 012 012");
        assert_eq!(reach(&Cuts::isolate(1, 3), 3), "02 1 02");
        assert_eq!(reach(&Cuts::between(0, 2), 3), "01 012 12");
        assert_eq!(reach(&Cuts::one_way(0, 2), 3), "01 012 012");
        assert_eq!(reach(&Cuts::partition(&[&[0, 1], &[2, 3, 4]]), 5), "01 01 234 234 234");
        assert_eq!(reach(&Cuts::partition(&[&[0], &[1]]), 3), "02 12 012");
        assert_eq!(reach(&Cuts::bridge(0, 3), 3), "012 01 02");
        assert_eq!(reach(&Cuts::bridge(2, 5), 5), "012 012 01234 234 234");
        assert_eq!(reach(&Cuts::majorities_ring(5), 5), "014 012 123 234 034");
        assert_eq!(reach(&Cuts::majorities_ring(7), 7).split(' ').next(), Some("01256"));
    }

    #[test]
    fn rules_name_the_ports_of_both_ends() {
        let rules = Cuts::one_way(0, 3).rules(3);
        assert!(rules.contains("iifname \"n0\" oifname \"host\" drop\n"), "{rules}");
        assert_eq!(rules.matches("drop").count(), 1);
    }
}
