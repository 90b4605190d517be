//! The ends of instances: each is told once, whoever saw it first.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_retry::RetryPolicy;
use tokio::sync::Notify;

use crate::{Ended, LaunchId};

/// The pauses between breaks in a row of what a platform tells: from a tenth of a second to
/// ten, for ever.
pub(crate) const BREAKS: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, base_ms: 100, cap_ms: 10_000, ..RetryPolicy::QUEUE };

/// The instances of one driver that run, and the ends that nobody has asked for yet.
///
/// An end is told once for each launch that is watched, and watching is what a start or an
/// adoption does: so there are never more of them than there were launches.
#[derive(Default)]
pub(crate) struct Ends {
    state: Mutex<State>,
    came: Notify,
}

#[derive(Default)]
struct State {
    watched: HashSet<LaunchId>,
    ended: VecDeque<Ended>,
}

impl Ends {
    /// From now on the end of this launch is told.
    pub(crate) fn watch(&self, id: LaunchId) {
        self.state().watched.insert(id);
    }

    /// It did not start after all.
    #[cfg(feature = "docker")]
    pub(crate) fn forget(&self, id: &LaunchId) {
        self.state().watched.remove(id);
    }

    /// Whether its end is still to come.
    #[cfg(feature = "docker")]
    pub(crate) fn is_watched(&self, id: &LaunchId) -> bool {
        self.state().watched.contains(id)
    }

    /// All whose end is still to come.
    pub(crate) fn watched(&self) -> Vec<LaunchId> {
        self.state().watched.iter().cloned().collect()
    }

    /// Tells an end, if it is the first time and somebody is to know.
    pub(crate) fn tell(&self, ended: Ended) {
        let mut state = self.state();
        if state.watched.remove(&ended.id) {
            state.ended.push_back(ended);
            drop(state);
            self.came.notify_one();
        }
    }

    /// The next end. The future may be dropped: nothing is lost by that.
    pub(crate) async fn next(&self) -> Ended {
        loop {
            let came = self.came.notified();
            let ended = {
                let mut state = self.state();
                let ended = state.ended.pop_front();
                // The one permit may stand for several ends.
                if !state.ended.is_empty() {
                    self.came.notify_one();
                }
                ended
            };
            match ended {
                Some(ended) => return ended,
                None => came.await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a container ended, for people.
pub(crate) fn why(exit_code: i64, out_of_memory: bool, said: &str) -> (bool, String) {
    let why = match exit_code {
        _ if out_of_memory => "out of memory".to_owned(),
        129..=160 => format!("killed by signal {}{}", exit_code - 128, signal(exit_code - 128)),
        code => format!("exit status {code}"),
    };
    let why = if said.is_empty() { why } else { format!("{why}: {said}") };
    (exit_code == 0 && !out_of_memory, why)
}

fn signal(number: i64) -> &'static str {
    match number {
        1 => " (HUP)",
        2 => " (INT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        15 => " (TERM)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(attempt: u64) -> LaunchId {
        LaunchId { place: "p:a".to_owned(), attempt }
    }

    fn ended(attempt: u64) -> Ended {
        Ended { id: id(attempt), success: true, why: String::new() }
    }

    #[tokio::test]
    async fn an_end_is_told_once_and_only_where_somebody_is_to_know() {
        let ends = Ends::default();
        ends.tell(ended(1));
        ends.watch(id(2));
        ends.watch(id(3));
        ends.tell(ended(2));
        ends.tell(ended(2));
        ends.tell(ended(3));
        assert_eq!((ends.next().await, ends.next().await), (ended(2), ended(3)));
        assert!(ends.watched().is_empty());
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), ends.next()).await;
        assert!(more.is_err(), "{more:?}");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_and_a_wait_that_is_given_up_loses_nothing() {
        let ends = std::sync::Arc::new(Ends::default());
        ends.watch(id(1));
        {
            let mut given_up = Box::pin(ends.next());
            assert!(futures::poll!(&mut given_up).is_pending());
            ends.tell(ended(1));
        }
        assert_eq!(ends.next().await, ended(1));
    }

    #[test]
    fn ends_are_told_in_words() {
        assert_eq!(why(0, false, ""), (true, "exit status 0".to_owned()));
        assert_eq!(
            why(2, false, "no such file"),
            (false, "exit status 2: no such file".to_owned())
        );
        assert_eq!(why(137, false, ""), (false, "killed by signal 9 (KILL)".to_owned()));
        assert_eq!(why(137, true, ""), (false, "out of memory".to_owned()));
    }
}
