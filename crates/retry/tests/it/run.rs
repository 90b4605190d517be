//! Runs of retries on a clock that stands still.

use std::future::{pending, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use sheaf_retry::{
    Clock, Code, Disposition, Error, Limit, ManualClock, Retry, RetryPolicy, Retryable,
    SharedClock, SystemClock, Timestamp, retry, retry_blocking, retry_blocking_if, retry_if,
};

use crate::policies;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("attempt {attempt} failed")]
struct Flaky {
    attempt: u32,
    code: Code,
    hint: Option<Duration>,
}

impl Retryable for Flaky {
    fn code(&self) -> Code {
        self.code
    }
    fn retry_after(&self) -> Option<Duration> {
        self.hint
    }
}

fn flaky(attempt: u32) -> Flaky {
    Flaky { attempt, code: Code::Unavailable, hint: None }
}

fn run_async<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// When each attempt started.
type Starts = Arc<Mutex<Vec<Duration>>>;

/// An operation that notes when it was called and always fails, taking `takes`.
fn failing(
    clock: &SharedClock,
    takes: Duration,
    hint: Option<Duration>,
) -> (Starts, impl FnMut(u32) -> Result<(), Flaky> + use<>) {
    let starts = Starts::default();
    let (seen, clock) = (Arc::clone(&starts), Arc::clone(clock));
    let op = move |attempt| {
        seen.lock().unwrap().push(clock.elapsed());
        clock.sleep_blocking(takes);
        Err(Flaky { hint, ..flaky(attempt) })
    };
    (starts, op)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn async_and_blocking_keep_one_schedule(
        policy in policies(), seed: u64, takes_ms in 0_u64..5_000, hint_ms in proptest::option::of(0_u64..90_000),
    ) {
        let takes = Duration::from_millis(takes_ms);
        let hint = hint_ms.map(Duration::from_millis);
        let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
        let (blocking, op) = failing(&clock, takes, hint);
        let first = retry_blocking(&policy, seed, clock, op).unwrap_err();

        let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
        let (asynchronous, mut op) = failing(&clock, takes, hint);
        let second = run_async(retry(&policy, seed, clock, |attempt| ready(op(attempt)))).unwrap_err();

        prop_assert_eq!(&first, &second);
        let starts = blocking.lock().unwrap().clone();
        prop_assert_eq!(&starts, &*asynchronous.lock().unwrap());

        prop_assert_eq!(starts.len(), first.attempts() as usize);
        prop_assert!(first.attempts() <= policy.max_retries + 1);
        prop_assert!(policy.deadline().is_none_or(|limit| starts.iter().all(|start| *start <= limit)));
        if policy.deadline().is_none() {
            prop_assert_eq!(first.attempts(), policy.max_retries + 1);
        }
        for (retry, pair) in (0..).zip(starts.windows(2)) {
            let wait = pair[1] - pair[0] - takes;
            prop_assert!(wait >= policy.delay_seeded(retry, seed).unwrap());
            if hint.is_none() {
                prop_assert_eq!(Some(wait), policy.delay_seeded(retry, seed));
            }
        }
    }
}

#[test]
fn the_error_carries_attempts_time_limit_and_the_last_cause() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
    let error = retry_blocking(&policy, 0, clock, |attempt| Err::<(), _>(flaky(attempt)));
    let error = error.unwrap_err();
    let expected = Error::Exhausted {
        attempts: 4,
        elapsed: Duration::from_secs(7),
        limit: Limit::Retries(3),
        source: flaky(4),
    };
    assert_eq!(error, expected);
    assert_eq!(error.to_string(), "gave up after 4 attempts in 7s: all 3 retries are used up");
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.downcast_ref::<Flaky>(), Some(&flaky(4)));
}

#[test]
fn a_permanent_error_ends_the_run_at_once() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let result = retry_blocking(&RetryPolicy::default(), 0, Arc::clone(&clock), |attempt| {
        let code = if attempt == 2 { Code::InvalidArgument } else { Code::Unavailable };
        Err::<(), _>(Flaky { code, ..flaky(attempt) })
    });
    let error = result.unwrap_err();
    assert_eq!((error.attempts(), error.code()), (2, Code::InvalidArgument));
    assert_eq!(error.disposition(), Disposition::Permanent);
    assert_eq!(error.elapsed(), clock.elapsed(), "slept after the permanent failure");
}

#[test]
fn nested_runs_do_not_multiply_attempts() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let policy = RetryPolicy::default();
    let mut calls = 0;
    let result = retry_blocking(&policy, 1, Arc::clone(&clock), |_| {
        retry_blocking(&policy, 2, Arc::clone(&clock), |attempt| {
            calls += 1;
            Err::<(), _>(flaky(attempt))
        })
    });
    assert!(matches!(result, Err(Error::Exhausted { attempts: 1, limit: Limit::Inner, .. })));
    assert_eq!(calls, 4);
}

#[test]
fn a_deadline_is_not_waited_for() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let policy = RetryPolicy { jitter: 0.0, deadline_ms: Some(2_999), ..RetryPolicy::default() };
    let result = retry_blocking(&policy, 0, Arc::clone(&clock), |n| Err::<(), _>(flaky(n)));
    let limit = Limit::Deadline(Duration::from_millis(2_999));
    let elapsed = Duration::from_secs(1);
    assert_eq!(result, Err(Error::Exhausted { attempts: 2, elapsed, limit, source: flaky(2) }));
    assert_eq!(clock.elapsed(), elapsed);
}

#[test]
fn predicates_decide_where_errors_do_not() {
    let policy = RetryPolicy::default();
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let answer = |attempt: u32| if attempt < 3 { Err("busy") } else { Err("gone") };
    let blocking = retry_blocking_if(&policy, 9, Arc::clone(&clock), answer, |e| *e == "busy");
    let took = clock.elapsed();
    assert_eq!(
        blocking,
        Err::<(), _>(Error::Permanent { attempts: 3, elapsed: took, source: "gone" })
    );

    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let op = |attempt| ready(answer(attempt));
    let asynchronous = run_async(retry_if(&policy, 9, Arc::clone(&clock), op, |e| *e == "busy"));
    assert_eq!(asynchronous, blocking);
}

#[test]
fn a_first_success_neither_waits_nor_is_observed() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let run = Retry::new(&RetryPolicy::default(), 0, Arc::clone(&clock))
        .on_wait(|wait| panic!("waited: {wait:?}"));
    assert_eq!(run.run_blocking(Ok::<_, Flaky>), Ok(1));
    assert_eq!(clock.elapsed(), Duration::ZERO);
}

#[test]
fn waits_are_observed_before_they_begin() {
    let manual = ManualClock::auto(Timestamp::EPOCH);
    let mut waits = Vec::new();
    let observed = Arc::clone(&manual);
    let run = Retry::new(&RetryPolicy::default(), 5, manual).on_wait(|wait| {
        assert_eq!(wait.elapsed, observed.elapsed());
        waits.push((wait.retry, wait.delay));
    });
    run.run_blocking(|attempt| Err::<(), _>(flaky(attempt))).unwrap_err();
    let expected: Vec<_> = (1..).zip(RetryPolicy::default().schedule(5)).collect();
    assert_eq!(waits, expected);
}

/// Lets other tasks run until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    let real = SystemClock::shared();
    while !condition() {
        assert!(real.elapsed() < Duration::from_secs(10), "it never came true");
        tokio::task::yield_now().await;
    }
}

/// The time before a run does not count.
#[test]
fn elapsed_and_deadline_count_from_the_first_attempt() {
    let manual = ManualClock::auto(Timestamp::EPOCH);
    manual.advance(Duration::from_secs(3600));
    let policy = RetryPolicy { jitter: 0.0, deadline_ms: Some(5_000), ..RetryPolicy::default() };
    let result = retry_blocking(&policy, 0, manual, |n| Err::<(), _>(flaky(n)));
    let error = result.unwrap_err();
    assert_eq!((error.attempts(), error.elapsed()), (3, Duration::from_secs(3)));
}

/// Dropping the future while it waits, or while an attempt hangs, ends the
/// run: no further call, and nobody left sleeping.
#[tokio::test]
async fn dropping_the_future_ends_the_run() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let calls = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&calls);
    let shared: SharedClock = clock.clone();
    let task = tokio::spawn(async move {
        retry(&RetryPolicy::default(), 0, shared, |attempt| {
            *seen.lock().unwrap() += 1;
            async move {
                if attempt == 2 {
                    pending::<()>().await;
                }
                Err::<(), _>(flaky(attempt))
            }
        })
        .await
    });
    until(|| clock.sleepers() == 1).await;
    clock.advance(Duration::from_secs(2));
    until(|| *calls.lock().unwrap() == 2).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    clock.advance(Duration::from_secs(3600));
    assert_eq!((clock.sleepers(), *calls.lock().unwrap()), (0, 2));
}
