//! How a worker pool behaves.

use std::time::Duration;

use sheaf_coordinator::DEFAULT_QUEUE;

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

/// Most batches that one pool works on at once.
pub const MAX_WORKER_COUNT: usize = 1_024;

/// How a worker pool behaves. Heartbeats go out at a third of `lease`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Names the pool; make it unique per process start.
    pub name: String,
    /// Queues to take from.
    pub queues: Vec<String>,
    /// Batches worked on at once, 1 to 1,024.
    pub worker_count: usize,
    /// Batches claimed ahead of the running ones; 0 claims only what can start at once.
    pub prefetch: usize,
    /// Payload bytes held at once, running and prefetched; one batch is taken even if larger.
    pub max_bytes: u64,
    /// How long an idle claim waits before it is sent again, at most 60 s.
    pub poll_interval: Duration,
    /// How long a lease lasts without a heartbeat, at least 100 ms.
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
        if self.prefetch > MAX_WORKER_COUNT {
            problems.push(format!("prefetch is {}, at most {MAX_WORKER_COUNT}", self.prefetch));
        }
        if self.lease < Duration::from_millis(100) {
            problems.push(format!("lease is {:?}, at least 100ms", self.lease));
        }
        if self.poll_interval.is_zero() || self.poll_interval > Duration::from_secs(60) {
            problems.push(format!(
                "poll_interval is {:?}, above 0 and at most 60s",
                self.poll_interval
            ));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config(problems)) }
    }
}
