//! How much of a queue is worked on at once, how fast, and how much may wait.

use serde::{Deserialize, Serialize};

/// The limits of one queue; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueuePolicy {
    /// Most batches under lease at once, from 1.
    pub max_leased: Option<u32>,
    /// Most batches under lease at once of one tenant, from 1; batches without
    /// a tenant are those of one more.
    pub max_leased_per_tenant: Option<u32>,
    /// How fast batches are given out.
    pub rate: Option<RateLimit>,
    /// Most payload bytes of batches that are not terminal; registrations
    /// beyond are refused as overloaded.
    pub max_live_bytes: Option<u64>,
}

/// A token bucket: every batch that is given out takes a token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Tokens that come in per second, 0.001 to 1,000,000.
    pub per_second: f64,
    /// Tokens that the bucket holds, 1 to 1,000,000: so many batches are given
    /// at once after a pause.
    pub burst: u32,
}
