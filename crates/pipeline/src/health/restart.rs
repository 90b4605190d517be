//! When a component is started again: a function of what happened and when.

use std::collections::VecDeque;
use std::time::Duration;

use sheaf_retry::{HumanDuration, RetryPolicy};

/// After which endings a component is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartMode {
    /// After every one.
    Always,
    /// After every one but its own in good order.
    #[default]
    OnFailure,
    /// After none.
    Never,
}

/// How a component came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It drained and ended with success.
    Done,
    /// It ended otherwise, or had to be killed, and why.
    Failed(String),
}

/// How often, and how soon.
#[derive(Clone, Debug, PartialEq)]
pub struct RestartPolicy {
    /// After what.
    pub mode: RestartMode,
    /// Delay before the first restart, milliseconds.
    pub base_ms: u64,
    /// What it is multiplied with from one to the next.
    pub factor: f64,
    /// Longest delay, milliseconds.
    pub cap_ms: u64,
    /// Share of the delay by which it is spread, 0 to 1.
    pub jitter: f64,
    /// Restarts within `window`; one more is one too many.
    pub most: u32,
    /// How long a restart counts.
    pub window: Duration,
    /// Who ran for so long begins with the first delay again.
    pub calm_after: Duration,
}

impl Default for RestartPolicy {
    /// After failures; from 1 s, twice as long each time, at most 30 s, ±20 %; ten
    /// restarts within ten minutes, and a minute of calm.
    fn default() -> Self {
        RestartPolicy {
            mode: RestartMode::OnFailure,
            base_ms: 1_000,
            factor: 2.0,
            cap_ms: 30_000,
            jitter: 0.2,
            most: 10,
            window: Duration::from_secs(600),
            calm_after: Duration::from_secs(60),
        }
    }
}

/// What is to be done about an ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again after so long.
    Restart {
        /// How long to wait.
        after: Duration,
        /// Which restart within the window it is, from 1.
        number: u32,
    },
    /// Leave it: it is done, or is not to be started again.
    Leave,
    /// Leave it, and call the pipeline failed.
    GiveUp {
        /// For people.
        why: String,
    },
}

/// The restarts of one component. Bounded: it keeps as many as the policy allows.
///
/// ```
/// use std::time::Duration;
/// use sheaf_pipeline::health::{Decision, Ending, RestartPolicy, Restarts};
///
/// let mut restarts = Restarts::new(RestartPolicy { jitter: 0.0, ..RestartPolicy::default() }, 1);
/// let killed = Ending::Failed("killed by signal 9".to_owned());
/// let ran = Duration::from_millis(10);
/// let after = |decision| match decision {
///     Decision::Restart { after, .. } => after.as_secs(),
///     other => panic!("{other:?}"),
/// };
/// assert_eq!(after(restarts.decide(&killed, ran, Duration::from_secs(1))), 1);
/// assert_eq!(after(restarts.decide(&killed, ran, Duration::from_secs(3))), 2);
/// assert_eq!(restarts.decide(&Ending::Done, ran, Duration::from_secs(9)), Decision::Leave);
/// ```
#[derive(Clone, Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    seed: u64,
    /// When they were decided, within the window: process time.
    recent: VecDeque<Duration>,
    /// Since it was calm.
    in_row: u32,
}

impl Restarts {
    /// None yet. The seed spreads the delays.
    pub fn new(policy: RestartPolicy, seed: u64) -> Self {
        Restarts { policy, seed, recent: VecDeque::new(), in_row: 0 }
    }

    /// What to do about a component that `ran` for so long and ended `now`.
    pub fn decide(&mut self, ending: &Ending, ran: Duration, now: Duration) -> Decision {
        let why = match (self.policy.mode, ending) {
            (RestartMode::Never, Ending::Failed(why)) => {
                return Decision::GiveUp { why: format!("{why}; it is not to be restarted") };
            }
            (RestartMode::Never | RestartMode::OnFailure, Ending::Done) => return Decision::Leave,
            (RestartMode::OnFailure | RestartMode::Always, Ending::Failed(why)) => why,
            (RestartMode::Always, Ending::Done) => "it ended by itself",
        };
        if ran >= self.policy.calm_after {
            self.in_row = 0;
        }
        let window = self.policy.window;
        self.recent.retain(|then| now.saturating_sub(*then) < window);
        let most = usize::try_from(self.policy.most).unwrap_or(usize::MAX);
        if self.recent.len() >= most {
            let window = HumanDuration(window);
            let most = self.policy.most;
            let why = format!("{why}; it was restarted {most} times within {window}, its limit");
            return Decision::GiveUp { why };
        }
        let after = self.delay();
        self.recent.push_back(now);
        self.in_row = self.in_row.saturating_add(1);
        let number = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        Decision::Restart { after, number }
    }

    /// It was started again by hand: what was before does not count.
    pub fn forget(&mut self) {
        self.recent.clear();
        self.in_row = 0;
    }

    fn delay(&self) -> Duration {
        let RestartPolicy { base_ms, factor, cap_ms, jitter, .. } = self.policy;
        let max_retries = u32::MAX;
        let policy =
            RetryPolicy { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms: None };
        policy.delay_seeded(self.in_row, self.seed).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    fn failed() -> Ending {
        Ending::Failed("exit code 1".to_owned())
    }

    fn restarts(policy: RestartPolicy) -> Restarts {
        Restarts::new(RestartPolicy { jitter: 0.0, ..policy }, 1)
    }

    fn seconds(decision: &Decision) -> u64 {
        match decision {
            Decision::Restart { after, .. } => after.as_secs(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn delays_grow_to_the_cap_and_begin_again_after_calm() {
        let mut restarts = restarts(RestartPolicy::default());
        let mut at = |ran: Duration, now: u64| {
            seconds(&restarts.decide(&failed(), ran, Duration::from_secs(now)))
        };
        let delays: Vec<u64> = (0..7).map(|n| at(SHORT, n * 40)).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(at(Duration::from_secs(60), 300), 1, "a minute of calm");
        assert_eq!(at(Duration::from_secs(59), 400), 2);
    }

    #[test]
    fn one_more_than_the_window_allows_is_given_up() {
        let policy = RestartPolicy { most: 3, ..RestartPolicy::default() };
        let mut restarts = restarts(policy);
        let mut at = |now: u64| restarts.decide(&failed(), SHORT, Duration::from_secs(now));
        for (now, number) in [(0, 1), (200, 2), (400, 3)] {
            assert!(matches!(at(now), Decision::Restart { number: n, .. } if n == number));
        }
        let Decision::GiveUp { why } = at(599) else { panic!("three within ten minutes") };
        assert_eq!(why, "exit code 1; it was restarted 3 times within 10m, its limit");
        // The first one has left the window.
        assert!(matches!(at(600), Decision::Restart { number: 3, .. }));
    }

    #[test]
    fn the_mode_decides_what_an_ending_is() {
        let with = |mode| restarts(RestartPolicy { mode, ..RestartPolicy::default() });
        let now = Duration::from_secs(1);
        assert_eq!(with(RestartMode::OnFailure).decide(&Ending::Done, SHORT, now), Decision::Leave);
        assert_eq!(with(RestartMode::Never).decide(&Ending::Done, SHORT, now), Decision::Leave);
        let never = with(RestartMode::Never).decide(&failed(), SHORT, now);
        assert!(matches!(never, Decision::GiveUp { .. }));
        assert_eq!(seconds(&with(RestartMode::Always).decide(&Ending::Done, SHORT, now)), 1);
    }

    #[test]
    fn a_restart_by_hand_clears_the_window() {
        let mut restarts = restarts(RestartPolicy { most: 1, ..RestartPolicy::default() });
        let now = Duration::from_secs(1);
        assert_eq!(seconds(&restarts.decide(&failed(), SHORT, now)), 1);
        assert!(matches!(restarts.decide(&failed(), SHORT, now), Decision::GiveUp { .. }));
        restarts.forget();
        assert_eq!(seconds(&restarts.decide(&failed(), SHORT, now)), 1);
    }

    #[test]
    fn what_is_kept_is_bounded_and_delays_are_spread_by_the_seed() {
        let policy = RestartPolicy { most: 100, ..RestartPolicy::default() };
        let run = |seed| {
            let mut restarts = Restarts::new(policy.clone(), seed);
            let decisions: Vec<Decision> = (0..10_000_u64)
                .map(|n| restarts.decide(&failed(), SHORT, Duration::from_secs(n)))
                .collect();
            assert!(restarts.recent.len() <= 100);
            decisions
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }
}
