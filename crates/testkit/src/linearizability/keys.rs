//! Histories of many keys, each of which is one of its own.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use super::{Model, Operation, Verdict, check};

/// A history by the key that each operation is about.
pub fn partition<K: Ord, O, R>(
    history: impl IntoIterator<Item = Operation<O, R>>,
    key: impl Fn(&O) -> K,
) -> BTreeMap<K, Vec<Operation<O, R>>> {
    let mut parts: BTreeMap<K, Vec<Operation<O, R>>> = BTreeMap::new();
    for operation in history {
        parts.entry(key(&operation.op)).or_default().push(operation);
    }
    parts
}

/// The verdict of each key that is not linearizable, or undecided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct KeyedVerdict<K> {
    /// How many keys there were.
    pub keys: usize,
    /// Those that failed. Places in them count the operations of that key alone.
    pub failed: BTreeMap<K, Verdict>,
}

impl<K> KeyedVerdict<K> {
    /// Whether an order was found for every key.
    pub fn is_linearizable(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether it is certain that a key has none.
    pub fn is_violation(&self) -> bool {
        self.failed.values().any(Verdict::is_violation)
    }
}

impl<K: Debug> fmt::Display for KeyedVerdict<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More says nothing that these do not.
        const SHOWN: usize = 3;
        write!(f, "{} of {} keys failed", self.failed.len(), self.keys)?;
        for (key, verdict) in self.failed.iter().take(SHOWN) {
            write!(f, "\nkey {key:?}: {verdict}")?;
        }
        Ok(())
    }
}

/// [`check`] for each key, all of which begin in the same state, each with at most
/// `work` steps: a system is linearizable if each of its keys is.
pub fn check_by_key<M: Model, K: Ord>(
    initial: &M::State,
    history: impl IntoIterator<Item = Operation<M::Op, M::Ret>>,
    key: impl Fn(&M::Op) -> K,
    work: u64,
) -> KeyedVerdict<K> {
    let parts = partition(history, key);
    let keys = parts.len();
    let verdicts =
        parts.into_iter().map(|(key, part)| (key, check::<M>(initial.clone(), &part, work)));
    KeyedVerdict { keys, failed: verdicts.filter(|(_, v)| !v.is_linearizable()).collect() }
}
