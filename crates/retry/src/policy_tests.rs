//! Tests of the policy's arithmetic and its printed form.

use super::*;

fn show(policy: RetryPolicy) -> String {
    policy.to_string()
}

#[test]
fn defaults_are_those_of_the_documents() {
    assert_eq!(show(RetryPolicy::default()), "3 retries: 1s, 2s, 4s (±20%)");
    assert_eq!(show(RetryPolicy::transfer()), "3 retries: 1s, 2s, 4s (±20%)");
    let long = RetryPolicy { max_retries: 14, ..RetryPolicy::default() };
    assert_eq!(show(long), "14 retries: 1s, 2s, 4s, 8s, 16s, 32s, 1m4s, 2m8s, 4m16s, 5m ×5 (±20%)");
}

#[test]
fn prints_every_shape() {
    let plain = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
    assert_eq!(show(RetryPolicy::none()), "no retries");
    assert_eq!(show(RetryPolicy { max_retries: 1, ..plain.clone() }), "1 retry: 1s");
    assert_eq!(show(RetryPolicy { factor: 1.0, ..plain.clone() }), "3 retries: 1s ×3");
    assert_eq!(
        show(RetryPolicy { deadline_ms: Some(90_000), ..plain.clone() }),
        "3 retries: 1s, 2s, 4s (within 1m30s)"
    );
    assert_eq!(
        show(RetryPolicy { jitter: 0.125, deadline_ms: Some(9_000), ..plain.clone() }),
        "3 retries: 1s, 2s, 4s (±12.5%, within 9s)"
    );
    let slow = RetryPolicy { max_retries: 1000, factor: 1.0001, ..plain };
    let slow = show(slow);
    assert!(slow.ends_with(", …, 1.105054s"), "{slow}");
}

#[test]
fn jitter_spreads_both_ways_and_half_is_none() {
    let policy = RetryPolicy::default();
    assert_eq!(policy.delay(0, 0.0), Some(Duration::from_millis(800)));
    assert_eq!(policy.delay(0, 0.5), Some(Duration::from_millis(1000)));
    assert_eq!(policy.delay(2, 1.0), Some(Duration::from_millis(4800)));
    assert_eq!(policy.delay(3, 0.5), None);
}

#[test]
fn a_hint_is_never_cut_short_but_by_the_cap() {
    let policy = RetryPolicy { cap_ms: 10_000, ..RetryPolicy::default() };
    assert_eq!(policy.hinted(Duration::from_secs(5), 0.0), Duration::from_secs(5));
    assert_eq!(policy.hinted(Duration::from_secs(5), 1.0), Duration::from_secs(6));
    assert_eq!(policy.hinted(Duration::MAX, 0.0), Duration::from_secs(10));
}

#[test]
fn absurd_values_give_finite_delays() {
    for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -3.0, 1e300] {
        for jitter in [f64::NAN, f64::INFINITY, -1.0, 7.0] {
            for base_ms in [0, 1, u64::MAX] {
                let policy = RetryPolicy {
                    max_retries: u32::MAX,
                    base_ms,
                    factor,
                    cap_ms: u64::MAX,
                    jitter,
                    deadline_ms: None,
                };
                for unit in [f64::NAN, -1.0, 0.0, 1.0, 9.0] {
                    let last = policy.delay(u32::MAX - 1, unit).unwrap();
                    assert!(last < Duration::MAX, "{policy:?}");
                    assert!(base_ms > 0 || last.is_zero(), "{policy:?}");
                }
            }
        }
    }
}
