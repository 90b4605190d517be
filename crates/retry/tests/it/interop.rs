//! The `backoff` crate, both ways.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::{Backoff, Constant, Stop};
use proptest::prelude::*;
use sheaf_retry::interop::{FromBackoff, PolicyBackoff, classify};
use sheaf_retry::{
    Delays, Error, Failure, Limit, ManualClock, Retry, RetryPolicy, SharedClock, Timestamp,
};

use crate::policies;

proptest! {
    #[test]
    fn ours_as_theirs_gives_our_delays(policy in policies(), seed: u64) {
        let policy = RetryPolicy { deadline_ms: None, ..policy };
        let clock = ManualClock::new(Timestamp::EPOCH);
        let mut theirs = PolicyBackoff::new(&policy, seed, clock);
        let ours: Vec<_> = policy.schedule(seed).collect();
        for _ in 0..2 {
            let given: Vec<_> = std::iter::from_fn(|| theirs.next_backoff()).collect();
            prop_assert_eq!(&given, &ours);
            theirs.reset();
        }
    }
}

#[test]
fn the_deadline_counts_from_the_reset() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let shared: SharedClock = clock.clone();
    let policy = RetryPolicy { jitter: 0.0, deadline_ms: Some(1_500), ..RetryPolicy::default() };
    let mut theirs = PolicyBackoff::new(&policy, 0, shared);
    clock.advance(Duration::from_secs(1));
    assert_eq!(theirs.next_backoff(), None);
    theirs.reset();
    assert_eq!(theirs.next_backoff(), Some(Duration::from_secs(1)));
}

#[test]
fn their_retry_runs_on_our_policy_and_our_classes() {
    let clock: SharedClock = ManualClock::new(Timestamp::EPOCH);
    let policy = RetryPolicy { base_ms: 0, ..RetryPolicy::default() };
    let kinds = |kind: io::ErrorKind| {
        let mut calls = 0;
        let result = backoff::retry(PolicyBackoff::new(&policy, 0, Arc::clone(&clock)), || {
            calls += 1;
            Err::<(), _>(classify(io::Error::from(kind)))
        });
        assert!(result.is_err());
        calls
    };
    assert_eq!(kinds(io::ErrorKind::ConnectionReset), 4);
    assert_eq!(kinds(io::ErrorKind::PermissionDenied), 1);
}

#[test]
fn theirs_drives_our_retry() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let theirs = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_secs(1))
        .with_multiplier(3.0)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    let mut waits = Vec::new();
    let run = Retry::with_delays(FromBackoff::new(theirs), clock);
    let answer = run.on_wait(|wait| waits.push(wait.delay.as_secs())).run_blocking(|n| {
        if n < 4 { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(n) }
    });
    assert_eq!(answer.unwrap(), 4);
    assert_eq!(waits, [1, 3, 9]);
}

#[test]
fn where_theirs_stops_ours_is_exhausted() {
    let clock: SharedClock = ManualClock::auto(Timestamp::EPOCH);
    let run = Retry::with_delays(FromBackoff::new(Stop {}), Arc::clone(&clock));
    let result = run.run_blocking_if(|_| Err::<(), _>("no"), |_| true);
    let expected = Error::Exhausted {
        attempts: 1,
        elapsed: clock.elapsed(),
        limit: Limit::Retries(0),
        source: "no",
    };
    assert_eq!(result, Err(expected));
}

#[test]
fn a_hint_lengthens_their_delay() {
    let mut delays = FromBackoff::new(Constant::new(Duration::from_secs(2)));
    let mut after = |hint| {
        delays
            .next_delay(Failure { elapsed: Duration::ZERO, hint: Some(Duration::from_secs(hint)) })
    };
    assert_eq!(after(1), Ok(Duration::from_secs(2)));
    assert_eq!(after(5), Ok(Duration::from_secs(5)));
}
