//! The policy as data.

use std::time::Duration;

use proptest::prelude::*;
use sheaf_retry::{Delays, Failure, HumanDuration, Jitter, Limit, RawRetryPolicy, RetryPolicy};

use crate::policies;

/// Half a microsecond each way is lost in rounding.
const ROUNDING: f64 = 1e-6;

proptest! {
    #[test]
    fn delays_rise_up_to_the_cap_and_then_stay(policy in policies()) {
        let nominal: Vec<_> = (0..policy.max_retries).map(|n| policy.delay(n, 0.5).unwrap()).collect();
        prop_assert!(nominal.is_sorted(), "{nominal:?}");
        let cap = Duration::from_millis(policy.cap_ms);
        prop_assert!(nominal.iter().all(|delay| *delay <= cap));
        if let Some(first) = nominal.first() {
            prop_assert_eq!(*first, Duration::from_millis(policy.base_ms));
        }
        if let Some(at) = nominal.iter().position(|delay| *delay == cap) {
            prop_assert!(nominal[at..].iter().all(|delay| *delay == cap));
        }
    }

    #[test]
    fn jitter_keeps_its_bounds(policy in policies(), seed: u64) {
        for (n, delay) in (0..).zip(policy.schedule(seed)) {
            let nominal = policy.delay(n, 0.5).unwrap().as_secs_f64();
            let (low, high) = (nominal * (1.0 - policy.jitter), nominal * (1.0 + policy.jitter));
            let delay = delay.as_secs_f64();
            prop_assert!(delay >= low - ROUNDING && delay <= high + ROUNDING, "{low} {delay} {high}");
        }
    }

    #[test]
    fn a_schedule_has_as_many_delays_as_the_policy_has_retries(policy in policies(), seed: u64) {
        let schedule = policy.schedule(seed);
        prop_assert_eq!(schedule.size_hint(), (policy.max_retries as usize, Some(policy.max_retries as usize)));
        prop_assert_eq!(schedule.count(), policy.max_retries as usize);
        prop_assert_eq!(policy.delay(policy.max_retries, 0.5), None);
    }

    #[test]
    fn a_delay_can_be_known_without_those_before_it(policy in policies(), seed: u64) {
        let alone: Vec<_> = (0..policy.max_retries).map(|n| policy.delay_seeded(n, seed).unwrap()).collect();
        prop_assert_eq!(policy.schedule(seed).collect::<Vec<_>>(), alone);
    }

    #[test]
    fn no_retry_starts_after_the_deadline(policy in policies(), seed: u64, hints: Vec<Option<u32>>) {
        let mut schedule = policy.schedule(seed);
        let mut elapsed = Duration::ZERO;
        let mut hints = hints.into_iter();
        loop {
            let hint = hints.next().flatten().map(|ms| Duration::from_millis(ms.into()));
            match schedule.next_delay(Failure { elapsed, hint }) {
                Ok(delay) => elapsed += delay,
                Err(Limit::Retries(limit)) => {
                    prop_assert_eq!((limit, schedule.retries()), (policy.max_retries, limit));
                    break;
                }
                Err(limit) => {
                    prop_assert_eq!(limit, Limit::Deadline(policy.deadline().unwrap()));
                    break;
                }
            }
            prop_assert!(policy.deadline().is_none_or(|limit| elapsed <= limit));
            if let Some(hint) = hint {
                prop_assert!(elapsed >= hint.min(Duration::from_millis(policy.cap_ms)));
            }
        }
    }

    #[test]
    fn survives_json(policy in policies()) {
        let json = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), policy.clone());
        prop_assert_eq!(policy.validate(), Ok(()));
    }

    #[test]
    fn survives_being_written_by_hand(policy in policies()) {
        let text = |ms| Some(HumanDuration(Duration::from_millis(ms)).to_string());
        let raw = RawRetryPolicy {
            max_retries: Some(policy.max_retries),
            base: text(policy.base_ms),
            factor: Some(policy.factor),
            cap: text(policy.cap_ms),
            jitter: Some(policy.jitter),
            deadline: policy.deadline_ms.and_then(text),
        };
        prop_assert_eq!(raw.resolve(&RetryPolicy::default()), Ok(policy));
    }

    #[test]
    fn any_number_from_the_wire_is_harmless(
        max_retries: u32, base_ms: u64, factor: f64, cap_ms: u64, jitter: f64, retry: u32, unit: f64,
    ) {
        let policy = RetryPolicy { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms: None };
        prop_assert_eq!(policy.delay(retry, unit).is_some(), retry < max_retries);
        prop_assert!(!policy.to_string().is_empty());
        let twice = Duration::from_millis(cap_ms).saturating_mul(2);
        prop_assert!(policy.delay(retry, unit).is_none_or(|delay| delay.as_secs_f64() <= twice.as_secs_f64() * 1.000_001));
    }

    #[test]
    fn durations_print_as_what_they_read(micros in 0_u64..u64::MAX / 2) {
        let duration = HumanDuration(Duration::from_micros(micros));
        prop_assert_eq!(duration.to_string().parse::<HumanDuration>().unwrap(), duration);
    }

    #[test]
    fn jitter_has_random_access(seed: u64) {
        let mut jitter = Jitter::new(seed);
        for index in 0..8 {
            prop_assert_eq!(jitter.next_unit().to_bits(), Jitter::at(seed, index).to_bits());
        }
    }
}

#[test]
fn an_empty_object_is_the_default_and_an_unknown_field_is_refused() {
    assert_eq!(serde_json::from_str::<RetryPolicy>("{}").unwrap(), RetryPolicy::default());
    let read = serde_json::from_str::<RetryPolicy>(r#"{"retries": 3}"#);
    assert!(read.unwrap_err().to_string().contains("unknown field `retries`"));
}
