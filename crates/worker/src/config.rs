//! How a worker pool behaves.

use std::time::Duration;

use sheaf_coordinator::{DEFAULT_QUEUE, limits};

use crate::error::Error;

/// Defaults of [`Config`], in one place.
pub mod defaults {
    use std::time::Duration;

    /// Batches worked on at once.
    pub const WORKER_COUNT: usize = 2;
    /// How long a claim waits; work that arrives meanwhile wakes it at once.
    pub const POLL_INTERVAL: Duration = Duration::from_secs(5);
    /// How long a lease lasts without a heartbeat.
    pub const LEASE: Duration = Duration::from_secs(30);
    /// Payload bytes held at once, running and prefetched.
    pub const MAX_BYTES: u64 = 256 << 20;
    /// How long a shutdown waits for running work.
    pub const GRACE: Duration = Duration::from_secs(30);
}

/// Most batches that one pool works on at once. Each takes a blocking thread
/// of the runtime, which has 512 by default, and its files need one more.
pub const MAX_WORKER_COUNT: usize = 256;
/// Most batches that one pool claims ahead.
const MAX_PREFETCH: usize = 1_024;

/// How a worker pool behaves. Heartbeats go out at a third of `lease`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names the pool; make it unique per process start.
    pub name: String,
    /// Queues to take from.
    pub queues: Vec<String>,
    /// Batches worked on at once, 1 to 256.
    pub worker_count: usize,
    /// Batches claimed ahead of the running ones; 0 claims only what can start at once.
    pub prefetch: usize,
    /// Payload bytes held at once, running and prefetched; one batch is taken even if larger.
    pub max_bytes: u64,
    /// Rows held at once, counted likewise; 0, the default, is no bound.
    pub max_rows: u64,
    /// How long an idle claim waits before it is sent again, at most 60 s.
    pub poll_interval: Duration,
    /// How long a lease lasts without a heartbeat, 100 ms to 24 h.
    pub lease: Duration,
    /// How long [`Worker::shutdown`](crate::Worker::shutdown) waits for running work.
    pub grace: Duration,
    /// Flight addresses whose payloads are at hand here: such batches are preferred.
    pub locations: Vec<String>,
}

impl Config {
    /// The defaults under a name.
    pub fn new(name: impl Into<String>) -> Self {
        Config {
            name: name.into(),
            queues: vec![DEFAULT_QUEUE.to_owned()],
            worker_count: defaults::WORKER_COUNT,
            prefetch: defaults::WORKER_COUNT * 2,
            max_bytes: defaults::MAX_BYTES,
            max_rows: 0,
            poll_interval: defaults::POLL_INTERVAL,
            lease: defaults::LEASE,
            grace: defaults::GRACE,
            locations: Vec::new(),
        }
    }

    /// Sets the number of batches worked on at once, and twice as many prefetched.
    #[must_use]
    pub fn with_worker_count(mut self, count: usize) -> Self {
        self.worker_count = count;
        self.prefetch = count.saturating_mul(2);
        self
    }

    /// Sets how long an idle claim waits.
    #[must_use]
    pub fn with_poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets how long a lease lasts without a heartbeat.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        self.lease / 3
    }

    /// Everything that is wrong, at once.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        if self.name.is_empty() || self.name.len() > 200 {
            problems.push(format!("name has {} bytes, allowed are 1 to 200", self.name.len()));
        }
        if self.queues.is_empty() {
            problems.push("queues is empty, name at least one".to_owned());
        }
        if !(1..=MAX_WORKER_COUNT).contains(&self.worker_count) {
            problems.push(format!(
                "worker_count is {}, allowed are 1 to {MAX_WORKER_COUNT}",
                self.worker_count
            ));
        }
        if self.prefetch > MAX_PREFETCH {
            problems.push(format!("prefetch is {}, at most {MAX_PREFETCH}", self.prefetch));
        }
        if !(limits::MIN_LEASE..=limits::MAX_LEASE).contains(&self.lease) {
            problems.push(format!("lease is {:?}, allowed are 100ms to 24h", self.lease));
        }
        // A claim that the coordinator would refuse is refused here, once.
        self.check_lists(&mut problems);
        if self.poll_interval.is_zero() || self.poll_interval > Duration::from_secs(60) {
            problems.push(format!(
                "poll_interval is {:?}, above 0 and at most 60s",
                self.poll_interval
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems)) }
    }

    fn check_lists(&self, problems: &mut Vec<String>) {
        for (field, list, most, longest) in [
            ("queues", &self.queues, limits::MAX_CLAIM_QUEUES, limits::MAX_NAME_BYTES),
            ("locations", &self.locations, limits::MAX_LOCATIONS, limits::MAX_TEXT_BYTES),
        ] {
            if list.len() > most {
                problems.push(format!("{field} has {} entries, at most {most}", list.len()));
            }
            for text in list {
                if text.is_empty() || text.len() > longest || text.chars().any(char::is_control) {
                    problems.push(format!(
                        "{field} has {text:?}: 1 to {longest} bytes without control characters"
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_allowed_number_of_workers_makes_a_pool() {
        for count in [1, MAX_WORKER_COUNT] {
            Config::new("w").with_worker_count(count).check().unwrap();
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut config = Config::new("")
            .with_worker_count(MAX_WORKER_COUNT + 1)
            .with_lease(Duration::from_millis(99))
            .with_poll_interval(Duration::from_secs(61));
        config.prefetch = MAX_PREFETCH + 1;
        config.queues = vec!["a\n".to_owned()];
        config.locations = vec![String::new(); limits::MAX_LOCATIONS + 1];
        let error = config.check().unwrap_err().to_string();
        for field in
            ["name", "worker_count", "prefetch", "lease", "poll_interval", "queues", "locations"]
        {
            assert!(error.contains(field), "{field} in {error}");
        }
        config.queues.clear();
        assert!(config.check().unwrap_err().to_string().contains("queues is empty"));
    }
}
