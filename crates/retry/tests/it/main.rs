//! Properties of schedules and runs, seen from outside.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[cfg(feature = "backoff")]
mod interop;
mod policy;
mod run;

use proptest::prelude::*;
use sheaf_retry::RetryPolicy;

/// Any policy that `validate` accepts, its fractions as people write them: JSON
/// readers may lose the last bit of a number with 17 digits.
fn policies() -> impl Strategy<Value = RetryPolicy> {
    let deadline = proptest::option::of(1_u64..600_000);
    (0_u32..12, 0_u64..60_000, 1_000_u32..5_000, 0_u64..600_000, 0_u32..=1_000, deadline).prop_map(
        |(max_retries, base_ms, factor, above_base, jitter, deadline_ms)| RetryPolicy {
            max_retries,
            base_ms,
            factor: f64::from(factor) / 1000.0,
            cap_ms: base_ms + above_base,
            jitter: f64::from(jitter) / 1000.0,
            deadline_ms,
        },
    )
}
