//! One call over a network: deadline, retries, the error restored.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sheaf_coordinator::Error;
use sheaf_coordinator::limits::MAX_WAIT;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, HumanDuration, Jitter, Retry, RetryPolicy, Retryable as _, SharedClock};

use crate::restore::restore;

/// How a client of a remote coordinator calls it.
#[derive(Clone, Debug, PartialEq)]
pub struct RpcOptions {
    /// Longest time for one attempt, what the call itself waits for not
    /// counted; 10 s by default, at most a day.
    pub deadline: Duration,
    /// When to try again after a transient error; by default 5 retries from
    /// 100 ms, twice as long each time, at most 2 s: an outage of some 3 s
    /// passes unseen.
    pub retry: RetryPolicy,
}

impl Default for RpcOptions {
    fn default() -> Self {
        RpcOptions {
            deadline: Duration::from_secs(10),
            retry: RetryPolicy {
                max_retries: 5,
                base_ms: 100,
                cap_ms: 2_000,
                ..RetryPolicy::TRANSFER
            },
        }
    }
}

/// The server is told a little more than the deadline: it gives up a call
/// whose connection is gone unnoticed, and otherwise this end does so first
/// and knows that it was the time.
const GRACE: Duration = Duration::from_secs(1);

/// A longer deadline is none, and gRPC has no way to say it.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Makes the calls of one client.
#[derive(Debug)]
pub(crate) struct Caller {
    /// One at least; all are the same coordinator.
    addresses: Vec<String>,
    /// Counts how often the next address was gone over to.
    turn: AtomicUsize,
    options: RpcOptions,
    clock: SharedClock,
    seed: u64,
    calls: AtomicU64,
}

impl Caller {
    pub(crate) fn new(addresses: Vec<String>, options: RpcOptions, clock: SharedClock) -> Self {
        // Random, so that clients that lost the same server do not come back in step.
        let seed = Jitter::seed_of(BatchId::generate(clock.now().as_millis()).as_str());
        let turn = AtomicUsize::new(0);
        Caller { addresses, turn, options, clock, seed, calls: AtomicU64::new(0) }
    }

    /// Which address is called now, by its place.
    pub(crate) fn place(&self) -> usize {
        self.turn.load(Ordering::Relaxed) % self.addresses.len().max(1)
    }

    fn address(&self) -> &str {
        self.addresses.get(self.place()).map_or("", String::as_str)
    }

    /// Goes over to the next address, where nobody did since `turn`: calls that
    /// failed together move on once.
    fn move_on(&self, turn: usize) {
        let next = turn.wrapping_add(1);
        let moved =
            self.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if moved && self.addresses.len() > 1 {
            tracing::debug!(address = self.address(), "calling the next coordinator");
        }
    }

    /// Calls `op` with the time that the server is to give it until it succeeds, fails
    /// for good, or the policy is used up. `wait` is how long the server is
    /// asked to wait for work.
    ///
    /// Every call of the contract may be sent again, so a lost answer is
    /// retried as a refused connection is. The next attempt goes to the next address
    /// where this one does not answer.
    pub(crate) async fn call<T, F, Fut>(
        &self,
        name: &'static str,
        wait: Duration,
        mut op: F,
    ) -> Result<T, Error>
    where
        F: FnMut(Duration) -> Fut,
        Fut: Future<Output = Result<T, sheaf_flight::Error>>,
    {
        let deadline = self.options.deadline.min(MAX_DEADLINE) + wait.min(MAX_WAIT);
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let seed = self.seed.wrapping_add(number);
        Retry::new(&self.options.retry, seed, self.clock.clone())
            .on_wait(|wait| {
                let (retry, delay) = (wait.retry, HumanDuration(wait.delay));
                let address = self.address();
                tracing::debug!(call = name, address, retry, %delay, "coordinator call failed, trying again");
            })
            .run(|_attempt| {
                let turn = self.turn.load(Ordering::Relaxed);
                let attempt = self.within(deadline, op(deadline + GRACE));
                async move {
                    let answer = attempt.await;
                    if let Err(error) = &answer
                        && is_absence(error.code())
                    {
                        self.move_on(turn);
                    }
                    answer
                }
            })
            .await
            .map_err(|error| {
                let address = self.addresses.join(", ");
                let operation = match error.attempts() {
                    1 => format!("{name} at {address}"),
                    many => format!("{name} at {address}, attempt {many}"),
                };
                restore(operation, error.into_last())
            })
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, sheaf_flight::Error>>,
    ) -> Result<T, sheaf_flight::Error> {
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.clock.sleep(deadline) => {
                let limit = HumanDuration(deadline);
                let problem = format!("no answer within {limit}");
                Err(sheaf_flight::Error::new(Code::DeadlineExceeded, problem))
            }
        }
    }
}

/// Whether a code says that nobody is there who could answer: another server may.
fn is_absence(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Draining | Code::DeadlineExceeded)
}

/// What came back is not what the contract says: a bug, or another version.
pub(crate) fn malformed(error: &Error) -> sheaf_flight::Error {
    let code = match error.code() {
        Code::InvalidArgument => Code::Internal,
        code => code,
    };
    sheaf_flight::Error::new(code, format!("the answer cannot be read: {error}"))
}
