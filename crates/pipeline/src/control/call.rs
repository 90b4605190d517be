//! One call over a network: deadline and retries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, HumanDuration, Jitter, Retry, RetryPolicy, SharedClock};

/// How a client calls the control plane.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientOptions {
    /// Longest time for one attempt; 5 s by default, at most a day.
    pub deadline: Duration,
    /// When to try again after a transient error; by default 5 retries from
    /// 100 ms, twice as long each time, at most 2 s. All calls may be sent twice.
    pub retry: RetryPolicy,
    /// How long [`ControlClient::join`](crate::control::ControlClient::join) waits
    /// for a control plane that is not there, or a place that another incarnation
    /// holds; 60 s by default: twice the time after which one that died counts as
    /// silent.
    pub patience: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            deadline: Duration::from_secs(5),
            retry: RetryPolicy {
                max_retries: 5,
                base_ms: 100,
                cap_ms: 2_000,
                ..RetryPolicy::TRANSFER
            },
            patience: Duration::from_secs(60),
        }
    }
}

/// gRPC has no way to say a longer one.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Makes the calls of one client.
#[derive(Debug)]
pub(super) struct Caller {
    address: String,
    pub(super) options: ClientOptions,
    pub(super) clock: SharedClock,
    seed: u64,
    calls: AtomicU64,
}

impl Caller {
    pub(super) fn new(address: String, options: ClientOptions, clock: SharedClock) -> Self {
        // Random, so that components that lost the same server do not come back in step.
        let seed = Jitter::seed_of(BatchId::generate(clock.now().as_millis()).as_str());
        Caller { address, options, clock, seed, calls: AtomicU64::new(0) }
    }

    /// How long the server is given.
    pub(super) fn deadline(&self) -> Duration {
        self.options.deadline.min(MAX_DEADLINE)
    }

    /// Another one for each call.
    pub(super) fn next_seed(&self) -> u64 {
        self.seed.wrapping_add(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) async fn call<T, F, Fut>(&self, name: &'static str, mut op: F) -> Result<T, Error>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        Retry::new(&self.options.retry, self.next_seed(), self.clock.clone())
            .on_wait(|wait| {
                let (retry, delay) = (wait.retry, HumanDuration(wait.delay));
                let address = &self.address;
                tracing::debug!(call = name, address, retry, %delay, "call of the control plane failed, trying again");
            })
            .run(|_attempt| self.within(op()))
            .await
            .map_err(|error| {
                let (attempts, last) = (error.attempts(), error.into_last());
                self.named(name, attempts, last)
            })
    }

    /// Says which call it was and of whom.
    fn named(&self, name: &str, attempts: u32, last: Error) -> Error {
        use sheaf_retry::Retryable as _;
        let (address, why) = (&self.address, last.message());
        let message = match attempts {
            1 => format!("{name} at {address}: {why}"),
            many => format!("{name} at {address}, attempt {many}: {why}"),
        };
        let error = Error::new(last.code(), message);
        match last.retry_after() {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let deadline = self.deadline();
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.clock.sleep(deadline) => {
                let limit = HumanDuration(deadline);
                Err(Error::new(Code::DeadlineExceeded, format!("no answer within {limit}")))
            }
        }
    }
}
