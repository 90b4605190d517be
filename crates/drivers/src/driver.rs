//! What every driver does.

use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_dataflow::Assignment;
use sheaf_retry::{HumanDuration, Timestamp};

/// Which start of an instance: another one with each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaunchId {
    /// The place in the registry: `PIPELINE:INSTANCE`.
    pub place: String,
    /// From 1, one more with each start of this place.
    pub attempt: u64,
}

/// An instance to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Which start.
    pub id: LaunchId,
    /// What the component is told.
    pub assignment: Assignment,
    /// What goes into its environment beside that, resolved.
    pub environment: Vec<(String, sheaf_flight::Secret)>,
}

/// An instance has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which start.
    pub id: LaunchId,
    /// Whether it ended with success.
    pub success: bool,
    /// Why, for people: `exit status 1`, `killed by signal 9 (KILL)`, `out of memory`.
    pub why: String,
}

impl Ended {
    /// Whether it ended because of what it is told to do, so that another start is of no use:
    /// it says so with the exit status 2.
    pub fn is_configuration(&self) -> bool {
        let rest = self.why.strip_prefix("exit status 2");
        !self.success && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

/// A line that an instance has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When it was taken in.
    pub at: Timestamp,
    /// The instance, as the plan calls it.
    pub instance: String,
    /// Whether it came from standard error.
    pub is_error: bool,
    /// The line, without its end.
    pub text: String,
}

/// Harm that is done to an instance on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// It is ended at once, as by a crash.
    Kill,
    /// It stands still, and goes on after that.
    Pause {
        /// For how long.
        time: Duration,
    },
    /// It stands still again and again, and runs for ten milliseconds in between.
    Slow {
        /// For how long.
        time: Duration,
        /// How long it stands still each time.
        delay: Duration,
    },
}

/// The longest that harm is done.
const MOST: Duration = Duration::from_secs(24 * 3600);
/// The longest that a slow instance stands still each time.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

impl Disturbance {
    /// For how long in all, and how long it stands still each time; `None` where it does not.
    pub(crate) fn times(self) -> Option<(Duration, Duration)> {
        match self {
            Disturbance::Kill => None,
            Disturbance::Pause { time } => Some((time, time)),
            Disturbance::Slow { time, delay } => Some((time, delay)),
        }
    }

    /// Refuses times that nobody can want.
    pub(crate) fn check(self) -> Result<(), String> {
        let Some((time, delay)) = self.times() else { return Ok(()) };
        if time.is_zero() || time > MOST {
            let (time, most) = (HumanDuration(time), HumanDuration(MOST));
            return Err(format!("{time} is no time for that; it may be up to {most}"));
        }
        if matches!(self, Disturbance::Slow { .. }) && (delay.is_zero() || delay > LONGEST_DELAY) {
            let (delay, most) = (HumanDuration(delay), HumanDuration(LONGEST_DELAY));
            return Err(format!("a delay of {delay} cannot be had; it may be up to {most}"));
        }
        Ok(())
    }
}

/// Why a driver cannot do what it is asked.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct DriverError {
    /// What it was to do, such as `cannot start linear:numbers`.
    pub what: String,
    /// Why not, and what to do.
    pub why: String,
}

/// Starts and stops instances. The same file runs on every driver.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Its name: `process`, `docker`, `kubernetes`.
    fn name(&self) -> &'static str;

    /// Whether it starts the store of durable edges, a program of this machine.
    fn starts_stores(&self) -> bool {
        false
    }

    /// Starts an instance, and answers when the platform has taken it on.
    ///
    /// # Errors
    /// Where there is no such program or image, or the platform refuses.
    async fn start(&self, launch: Launch) -> Result<(), DriverError>;

    /// Asks an instance to finish what it has, and ends it after `drain` if it has not. Answers
    /// when nothing of it runs any more; also where nothing did.
    ///
    /// # Errors
    /// Where the platform does not answer.
    async fn stop(&self, id: &LaunchId, drain: Duration) -> Result<(), DriverError>;

    /// The next instance that ended by itself or was ended. The future may be dropped.
    async fn ended(&self) -> Ended;

    /// What still runs of a pipeline, such as after a restart of the control plane.
    ///
    /// # Errors
    /// Where the platform does not answer.
    async fn running(&self, pipeline: &str) -> Result<Vec<LaunchId>, DriverError>;

    /// Does harm to an instance, for as long as it is this start of it, and answers when that
    /// has begun. Where the driver's process ends meanwhile, an instance may stay still; its
    /// health tells.
    ///
    /// # Errors
    /// Where it does not run, or the platform cannot do that.
    async fn disturb(&self, id: &LaunchId, how: Disturbance) -> Result<(), DriverError> {
        let what = format!("cannot disturb {}", id.place);
        let why = format!("the {} driver cannot do {how:?}; use its own means", self.name());
        Err(DriverError { what, why })
    }

    /// Removes what is left of a pipeline of which nothing runs any more, such as its network;
    /// with `state` also what its places keep, where that is not in their `stateDir` here.
    /// Nothing, for a driver that leaves nothing.
    ///
    /// # Errors
    /// Where the platform does not answer, or others use what is to be removed.
    async fn remove(&self, pipeline: &str, state: bool) -> Result<(), DriverError> {
        let _ = (pipeline, state);
        Ok(())
    }

    /// The last `tail` lines of the instances in these places, in the order of their times;
    /// with `follow` also what comes then, without end.
    ///
    /// # Errors
    /// Where a log cannot be read, or the platform keeps logs elsewhere.
    async fn logs(
        &self,
        places: &[String],
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, LogLine>, DriverError> {
        let _ = (tail, follow);
        let what = format!("cannot read the logs of {}", places.join(", "));
        let why = format!("the {} driver has none; look where it runs them", self.name());
        Err(DriverError { what, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exit_status_two_is_one_of_configuration() {
        let of = |why: &str| {
            let id = LaunchId { place: "p:a".to_owned(), attempt: 1 };
            Ended { id, success: false, why: why.to_owned() }.is_configuration()
        };
        assert!(of("exit status 2") && of("exit status 2: no such column"));
        assert!(!of("exit status 25") && !of("exit status 1: exit status 2") && !of(""));
    }
}
