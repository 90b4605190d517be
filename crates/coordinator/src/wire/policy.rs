//! Limits of queues.

use sheaf_proto::coordinator::v1 as proto;

use crate::contract::Error;
use crate::policy::{QueuePolicy, RateLimit};

impl From<&QueuePolicy> for proto::QueuePolicy {
    fn from(policy: &QueuePolicy) -> Self {
        proto::QueuePolicy {
            max_leased: policy.max_leased,
            max_leased_per_tenant: policy.max_leased_per_tenant,
            rate: policy
                .rate
                .map(|rate| proto::RateLimit { per_second: rate.per_second, burst: rate.burst }),
            max_live_bytes: policy.max_live_bytes,
        }
    }
}

impl TryFrom<proto::QueuePolicy> for QueuePolicy {
    type Error = Error;

    fn try_from(message: proto::QueuePolicy) -> Result<Self, Error> {
        let policy = QueuePolicy {
            max_leased: message.max_leased,
            max_leased_per_tenant: message.max_leased_per_tenant,
            rate: message
                .rate
                .map(|rate| RateLimit { per_second: rate.per_second, burst: rate.burst }),
            max_live_bytes: message.max_live_bytes,
        };
        crate::limits::policy(&policy)?;
        Ok(policy)
    }
}
