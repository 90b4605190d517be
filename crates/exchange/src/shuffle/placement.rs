//! Which worker gets which partition.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::MAX_PARTITIONS;

/// What a worker says of how busy it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLoad {
    /// Bytes in use of the budget in which received chunks count.
    pub memory_bytes: u64,
    /// Most bytes of it.
    pub memory_limit_bytes: u64,
    /// Bytes of chunks that were moved to disk.
    pub disk_bytes: u64,
    /// Partitions that are there.
    pub partitions: u64,
    /// Attempts of senders that have begun and not committed.
    pub open_attempts: u64,
    /// Whether it takes no new attempts.
    pub draining: bool,
}

impl WorkerLoad {
    /// Bytes of memory that are free.
    pub fn spare_bytes(&self) -> u64 {
        self.memory_limit_bytes.saturating_sub(self.memory_bytes)
    }
}

/// A worker for each partition of a stage. All senders of the stage have to use
/// the same one: its [`workers`](Placement::workers) are those of a
/// [`ShufflePlan`](super::ShufflePlan).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Partition `n` goes to the worker at `n`.
    pub workers: Vec<String>,
    /// Workers that were asked and get nothing, and why.
    pub left_out: Vec<(String, String)>,
}

impl Placement {
    /// Gives each partition to the worker that has most memory free for each
    /// partition that it has, or was given so far; of equal ones, to the first.
    /// Who failed to say, is about to end, or has no memory free is left out, the
    /// last only as long as others have some.
    ///
    /// ```
    /// use sheaf_exchange::shuffle::{Placement, WorkerLoad};
    ///
    /// let load = |memory_bytes| WorkerLoad {
    ///     memory_bytes,
    ///     memory_limit_bytes: 100,
    ///     ..WorkerLoad::default()
    /// };
    /// let loads = [("a".to_owned(), Ok(load(70))), ("b".to_owned(), Ok(load(10)))];
    /// let placement = Placement::choose(&loads, 4)?;
    /// assert_eq!(placement.workers, ["b", "b", "a", "b"]);
    /// # Ok::<(), sheaf_exchange::shuffle::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Argument`] where no worker is left; [`Error::Partition`] for no
    /// partitions, or more than [`MAX_PARTITIONS`].
    pub fn choose(
        loads: &[(String, Result<WorkerLoad, Error>)],
        partitions: u32,
    ) -> Result<Self, Error> {
        let count = partitions as usize;
        if count == 0 || count > MAX_PARTITIONS {
            return Err(crate::Error::no_partition_count(count).into());
        }
        Self::place(vec![None; count], loads)
    }

    /// The partitions of `gone` go to others, by the same rule; all others stay.
    ///
    /// # Errors
    /// [`Error::Argument`] where no worker is left.
    pub fn without(
        &self,
        gone: &[String],
        loads: &[(String, Result<WorkerLoad, Error>)],
    ) -> Result<Self, Error> {
        let kept = |worker: &String| (!gone.contains(worker)).then(|| worker.clone());
        Self::place(self.workers.iter().map(kept).collect(), loads)
    }

    /// The partitions that another placement has elsewhere.
    pub fn moved(&self, other: &Placement) -> Vec<u32> {
        let both = (0..).zip(self.workers.iter().zip(&other.workers));
        both.filter(|(_, (one, two))| one != two).map(|(partition, _)| partition).collect()
    }

    fn place(
        places: Vec<Option<String>>,
        loads: &[(String, Result<WorkerLoad, Error>)],
    ) -> Result<Self, Error> {
        let mut left_out = Vec::new();
        let mut free: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
        for (at, (worker, load)) in loads.iter().enumerate() {
            match load {
                Ok(load) if load.draining => {
                    left_out.push((worker.clone(), "it is about to end".to_owned()));
                }
                Ok(load) => drop(free.insert(at, (load.spare_bytes(), load.partitions))),
                Err(error) => left_out.push((worker.clone(), error.to_string())),
            }
        }
        if free.values().any(|(spare, _)| *spare > 0) {
            free.retain(|at, (spare, _)| {
                if *spare == 0 {
                    left_out.push((loads[*at].0.clone(), "it has no memory free".to_owned()));
                }
                *spare > 0
            });
        }
        let mut workers = Vec::with_capacity(places.len());
        for place in places {
            if let Some(stays) = place {
                workers.push(stays);
                continue;
            }
            let rank = |(at, (spare, has)): &(&usize, &mut (u64, u64))| {
                (*spare / (*has + 1), Reverse(*has), Reverse(**at))
            };
            let Some((at, (_, has))) = free.iter_mut().max_by_key(rank) else {
                let why: Vec<String> =
                    left_out.iter().map(|(worker, why)| format!("{worker}: {why}")).collect();
                let text = format!("no worker is left to take partitions ({})", why.join("; "));
                return Err(Error::Argument(text));
            };
            *has += 1;
            workers.push(loads[*at].0.clone());
        }
        Ok(Placement { workers, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Said = (String, Result<WorkerLoad, Error>);

    fn load(name: &str, spare: u64, partitions: u64) -> Said {
        let (memory_limit_bytes, memory_bytes) = (1_000, 1_000 - spare);
        let load =
            WorkerLoad { memory_limit_bytes, memory_bytes, partitions, ..WorkerLoad::default() };
        (name.to_owned(), Ok(load))
    }

    fn draining(name: &str) -> Said {
        let (name, said) = load(name, 1_000, 0);
        (name, said.map(|load| WorkerLoad { draining: true, ..load }))
    }

    fn dead(name: &str) -> Said {
        (name.to_owned(), Err(Error::Argument("it is dead".to_owned())))
    }

    #[test]
    fn partitions_go_where_there_is_memory_for_them() {
        let of = |loads: &[Said], partitions| {
            Placement::choose(loads, partitions).unwrap().workers.concat()
        };
        assert_eq!(of(&[load("a", 500, 0), load("b", 500, 0)], 4), "abab");
        assert_eq!(of(&[load("a", 900, 0), load("b", 300, 0)], 4), "aaba");
        // Who has some already gets fewer.
        assert_eq!(of(&[load("a", 500, 9), load("b", 500, 0)], 3), "bbb");
        // The order of who is asked changes nothing but ties.
        assert_eq!(of(&[load("b", 300, 0), load("a", 900, 0)], 4), "aaba");
        // Where nobody has memory they get them all the same, and spill.
        assert_eq!(of(&[load("a", 0, 0), load("b", 0, 0)], 2), "ab");
    }

    #[test]
    fn workers_that_are_dead_or_full_or_about_to_end_get_none() {
        let loads = [draining("a"), dead("b"), load("c", 0, 0), load("d", 1, 5)];
        let placement = Placement::choose(&loads, 3).unwrap();
        assert_eq!(placement.workers.concat(), "ddd");
        let left_out: Vec<&str> =
            placement.left_out.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(left_out, ["a", "b", "c"]);
        let error = Placement::choose(&[draining("a"), dead("b")], 3).unwrap_err().to_string();
        assert!(error.contains("b: ") && error.contains("it is dead"), "{error}");
        assert!(Placement::choose(&loads, 0).is_err());
        assert!(Placement::choose(&loads, u32::MAX).is_err());
    }

    #[test]
    fn only_the_partitions_of_who_is_gone_move() {
        let all = [load("a", 500, 0), load("b", 500, 0), load("c", 500, 0)];
        let before = Placement::choose(&all, 6).unwrap();
        let after = before.without(&["b".to_owned()], &[load("a", 400, 2), load("c", 500, 2)]);
        let after = after.unwrap();
        assert_eq!(before.workers.concat(), "abcabc");
        assert_eq!(before.moved(&after), [1, 4]);
        assert_eq!(after.workers.concat(), "accaac");
        assert!(after.without(&["a".to_owned(), "c".to_owned()], &[]).is_err());
    }
}
