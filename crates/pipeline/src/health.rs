//! How health is told, and what is done about it.
//!
//! A component is healthy while it beats and its own loop moves; where it has a
//! health endpoint, that has to answer too. Both are looked at by a [`Monitor`],
//! with the registry's rules. When a component has to be started again is
//! decided by [`Restarts`]. A component answers with a [`HealthServer`].

mod endpoint;
mod monitor;
mod poll;
mod restart;
mod server;

use std::time::Duration;

use sheaf_retry::HumanDuration;

pub use endpoint::{DEFAULT_PORT, Endpoint};
pub use monitor::Monitor;
pub use poll::{PATH, Poller};
pub use restart::{Decision, Ending, RestartMode, RestartPolicy, Restarts};
pub use server::{HealthServer, Page, Pages, Vitals};

/// Longest time that any of them may be.
const MOST: Duration = Duration::from_secs(24 * 3600);

/// When a component counts as unhealthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often components are told to beat.
    pub beat_every: Duration,
    /// How often it is looked who was silent.
    pub check_every: Duration,
    /// Who is silent for longer than that is unhealthy, and may be replaced.
    pub unhealthy_after: Duration,
    /// How often health endpoints are looked at.
    pub poll_every: Duration,
    /// How long one look may take.
    pub poll_timeout: Duration,
    /// After so many that fail, one after another, a component is unhealthy.
    pub poll_failures: u32,
    /// A worker that is silent for longer than that is forgotten.
    pub forget_after: Duration,
}

impl Default for Timing {
    /// Beats every 10 s, looks every 5 s, unhealthy after more than 30 s; polls
    /// every 10 s that may take 2 s, of which three may not fail; workers are
    /// forgotten after 10 minutes.
    fn default() -> Self {
        Timing {
            beat_every: Duration::from_secs(10),
            check_every: Duration::from_secs(5),
            unhealthy_after: Duration::from_secs(30),
            poll_every: Duration::from_secs(10),
            poll_timeout: Duration::from_secs(2),
            poll_failures: 3,
            forget_after: Duration::from_secs(600),
        }
    }
}

impl Timing {
    /// All times as many times shorter: for tests, and for who cannot wait.
    #[must_use]
    pub fn divided_by(&self, by: u32) -> Self {
        let by = by.max(1);
        Timing {
            beat_every: self.beat_every / by,
            check_every: self.check_every / by,
            unhealthy_after: self.unhealthy_after / by,
            poll_every: self.poll_every / by,
            poll_timeout: self.poll_timeout / by,
            poll_failures: self.poll_failures,
            forget_after: self.forget_after / by,
        }
    }

    /// Everything that is wrong with it, all at once.
    ///
    /// # Errors
    /// One sentence for each value, naming it, its limit and what to write instead.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let shown = HumanDuration;
        let all = [
            ("beat_every", self.beat_every),
            ("check_every", self.check_every),
            ("unhealthy_after", self.unhealthy_after),
            ("poll_every", self.poll_every),
            ("poll_timeout", self.poll_timeout),
            ("forget_after", self.forget_after),
        ];
        for (name, time) in all {
            if time < Duration::from_millis(1) || time > MOST {
                let (time, most) = (shown(time), shown(MOST));
                problems.push(format!("{name}: {time} is not between 1ms and {most}"));
            }
        }
        // One beat may be lost.
        if self.unhealthy_after < self.beat_every.saturating_mul(2) {
            let (after, beat) = (shown(self.unhealthy_after), shown(self.beat_every));
            problems.push(format!(
                "unhealthy_after: {after} is less than two beats of {beat}, so that one lost beat would count as silence"
            ));
        }
        if self.poll_failures == 0 {
            problems.push("poll_failures: 0 makes everybody unhealthy; write 1 or more".to_owned());
        }
        if self.forget_after < self.unhealthy_after {
            let (forget, after) = (shown(self.forget_after), shown(self.unhealthy_after));
            problems
                .push(format!("forget_after: {forget} is shorter than unhealthy_after, {after}"));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_those_of_the_document() {
        let timing = Timing::default();
        timing.validate().unwrap();
        let seconds = [timing.beat_every, timing.check_every, timing.unhealthy_after];
        assert_eq!(seconds.map(|time| time.as_secs()), [10, 5, 30]);
        timing.divided_by(100).validate().unwrap();
    }

    #[test]
    fn everything_wrong_is_said_at_once() {
        let timing = Timing {
            beat_every: Duration::ZERO,
            unhealthy_after: Duration::from_secs(1),
            poll_failures: 0,
            forget_after: Duration::from_millis(10),
            ..Timing::default()
        };
        let problems = timing.validate().unwrap_err();
        let fields: Vec<_> = problems.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(fields, ["beat_every", "poll_failures", "forget_after"]);
        let timing = Timing { unhealthy_after: Duration::from_secs(19), ..Timing::default() };
        assert!(timing.validate().unwrap_err()[0].starts_with("unhealthy_after: 19s"));
    }
}
