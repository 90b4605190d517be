//! Which failures are worth another attempt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use sheaf_retry::{Code, Disposition, RetryPolicy, Retryable, SharedClock, retry, retry_if};

use super::wants_room;
use crate::shuffle::error::Error;

/// An error, and what to do about it.
struct Judged {
    error: Error,
    disposition: Disposition,
}

impl Retryable for Judged {
    fn code(&self) -> Code {
        self.error.code()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.error.retry_after()
    }

    fn disposition(&self) -> Disposition {
        self.disposition
    }
}

/// Why a call is made again.
#[derive(Clone, Copy, Debug)]
pub(super) enum Again {
    /// It failed for a while.
    Attempt,
    /// There was no memory for it.
    Room,
}

/// Calls until it works or is hopeless; the last error.
///
/// Want of memory is waited for by a policy of its own, `room`. A wrong checksum is
/// tried once more: bytes that were hurt on their way are whole the next
/// time, those that were hurt before are not. `told` hears of each call but the first.
pub(super) async fn with_retries<'a, T: Send>(
    clock: &SharedClock,
    seed: u64,
    policy: &RetryPolicy,
    room: &RetryPolicy,
    told: &(dyn Fn(Again) + Sync),
    call: impl Fn() -> BoxFuture<'a, Result<T, Error>> + Send + Sync + 'a,
) -> Result<T, Error> {
    let was_corrupt = AtomicBool::new(false);
    let (call, was_corrupt) = (&call, &was_corrupt);
    let attempt = |number| {
        if number > 1 {
            told(Again::Attempt);
        }
        let clock = clock.clone();
        let again = move |number| {
            if number > 1 {
                told(Again::Room);
            }
            call()
        };
        async move {
            let result = retry_if(room, seed, clock, again, wants_room).await;
            result.map_err(|failed| {
                let disposition = match &failed {
                    sheaf_retry::Error::Exhausted { .. } => Disposition::Exhausted,
                    sheaf_retry::Error::Permanent { source, .. } => judge(source, was_corrupt),
                };
                Judged { error: failed.into_last(), disposition }
            })
        }
    };
    let result = retry(policy, seed, clock.clone(), attempt).await;
    result.map_err(|failed| failed.into_last().error)
}

fn judge(error: &Error, was_corrupt: &AtomicBool) -> Disposition {
    if error.code() == Code::Corrupt && !was_corrupt.swap(true, Ordering::Relaxed) {
        return Disposition::Transient { after: None };
    }
    error.disposition()
}
