//! In which order the senders of a stage with dictionaries are read.
//!
//! One sender is read to its end before the next. Were that another one in each
//! partition, the chunks of the others would fill the memory that each of them needs
//! for its end. So all partitions of a stage follow one order, and the sender whose
//! turn it is finds room that nobody else is given.

use super::{Query, Table};

/// Senders in the order in which the partitions of a stage read them.
#[derive(Debug, Default)]
pub(super) struct Lead {
    senders: Vec<u32>,
    /// So many of them have sent all they have, to each partition.
    done: usize,
}

impl Lead {
    pub(super) fn get(&self, at: usize) -> Option<u32> {
        self.senders.get(at).copied()
    }

    pub(super) fn add(&mut self, sender: u32) {
        self.senders.push(sender);
    }
}

/// What a sender is to the readers of its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Turn {
    /// They read all as it comes.
    Any,
    /// They wait for this one.
    Its,
    /// They wait for another one, or will: nobody reads yet.
    Another,
}

impl Table {
    /// Whether it is the turn of a sender.
    pub(in super::super) fn turn(&mut self, query: &str, stage: u32, sender: u32) -> Turn {
        let Some(query) = self.queries.get_mut(query) else { return Turn::Any };
        let Query { partitions, leads, .. } = query;
        let its = || partitions.range((stage, 0)..=(stage, u32::MAX));
        if !its().next().is_some_and(|(_, one)| one.schema().has_dictionaries) {
            return Turn::Any;
        }
        let Some(lead) = leads.get_mut(&stage) else { return Turn::Another };
        while let Some(first) = lead.get(lead.done) {
            if its().any(|(_, partition)| !partition.has_all(first)) {
                return if first == sender { Turn::Its } else { Turn::Another };
            }
            lead.done += 1;
        }
        Turn::Another
    }
}
