//! What is done, in words and in time.

use std::time::Duration;

use sheaf_drivers::Disturbance;
use sheaf_retry::HumanDuration;

pub(super) fn words(how: Disturbance) -> String {
    match how {
        Disturbance::Kill => "kill".to_owned(),
        Disturbance::Pause { time } => format!("pause for {}", HumanDuration(time)),
        Disturbance::Slow { time, delay } => {
            format!("slow by {} for {}", HumanDuration(delay), HumanDuration(time))
        }
    }
}

/// How long it takes.
pub(super) fn time(how: Disturbance) -> Duration {
    match how {
        Disturbance::Kill => Duration::ZERO,
        Disturbance::Pause { time } | Disturbance::Slow { time, .. } => time,
    }
}

/// To milliseconds.
pub(super) fn round(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
