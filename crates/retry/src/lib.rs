//! Retries, for the whole of Sheaf: when to try again, what to try again, and
//! how to find that out without waiting.
//!
//! ```
//! use std::io;
//! use sheaf_retry::{Code, ManualClock, RetryPolicy, Retryable, Timestamp, retry_blocking};
//!
//! let policy = RetryPolicy::default();
//! assert_eq!(policy.to_string(), "3 retries: 1s, 2s, 4s (±20%)");
//!
//! let clock = ManualClock::auto(Timestamp::EPOCH); // in earnest: SystemClock::shared()
//! let refused = retry_blocking(&policy, 42, clock, |_attempt| {
//!     Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused))
//! });
//! let error = refused.expect_err("nobody listens");
//! assert_eq!((error.attempts(), error.code()), (4, Code::Unavailable));
//! ```
//!
//! # Parts
//!
//! | question | answer |
//! |---|---|
//! | When again? | [`RetryPolicy`]: plain data, prints its schedule, checks itself; [`RawRetryPolicy`] reads `5s` and `1h30m` |
//! | Is it worth it? | [`Retryable`] on the error: a stable [`Code`], its [`Class`], a hint |
//! | Do it | [`retry`], [`retry_if`], [`retry_blocking`], [`retry_blocking_if`]; [`Retry`] to watch the waits or to bring other [`Delays`] |
//! | How did it end? | [`Error`]: attempts, time, the limit, and the last error as its source |
//! | Which time? | [`Clock`]: the machine's ([`SystemClock`]) or the test's ([`ManualClock`]) |
//! | Which chance? | a seed: [`Jitter`] gives the same numbers everywhere and for ever |
//!
//! # What holds
//!
//! - The delay before retry `n` (from 0) is `base * factor^n`, at most the cap,
//!   spread by `±jitter`. Before jitter the delays never fall.
//! - `max_retries: 3` means at most four calls; 0 means one.
//! - A server's hint lengthens a delay and never shortens it. It is waited for
//!   up to the policy's cap, so a peer cannot park a caller for a day.
//! - No retry starts after the deadline, and none that would is waited for. A
//!   running attempt is not cut short: a timeout belongs inside the call.
//! - The same policy and seed give the same delays, asynchronous or blocking,
//!   on every platform; one can be worked out without those before it
//!   ([`RetryPolicy::delay_seeded`]).
//! - An error that ended a run is not transient: retries do not multiply when
//!   they are nested.
//! - Nothing here spawns, logs, reads the environment or keeps a global.
//!
//! # Retrying what has an effect
//!
//! A failed call may have taken effect: the answer was lost, not the request.
//! Retry only what is idempotent, by an identifier or a fencing token that the
//! other side checks.
//!
//! # Feature `backoff`
//!
//! `interop` turns a policy into the `backoff` crate's `Backoff` and lets any
//! of theirs drive a [`Retry`]. Off by default, since that crate is not
//! maintained any more (RUSTSEC-2025-0012): it is a bridge for programs that
//! have it already, and no reason to take it up.

mod bytes;
mod clock;
mod code;
mod error;
mod human;
#[cfg(feature = "backoff")]
pub mod interop;
mod jitter;
mod manual;
mod policy;
mod problem;
mod raw;
mod retryable;
mod run;
mod schedule;
mod throttle;
mod timestamp;

pub use bytes::{BytesError, HumanBytes};
pub use clock::{Clock, SharedClock, Sleep, SystemClock};
pub use code::{Class, Code, UnknownCode};
pub use error::Error;
pub use human::{DurationError, HumanDuration};
pub use jitter::Jitter;
pub use manual::ManualClock;
pub use policy::RetryPolicy;
pub use problem::{MAX_CAP, MAX_FACTOR, MAX_RETRIES, Problem};
pub use raw::RawRetryPolicy;
pub use retryable::{Disposition, Retryable};
pub use run::{Retry, Wait, retry, retry_blocking, retry_blocking_if, retry_if};
pub use schedule::{Delays, Failure, Limit, Schedule};
pub use throttle::Throttle;
pub use timestamp::Timestamp;
