//! Specifications, policies, failures and the enumerations.

use std::time::Duration;

use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::{Code, RetryPolicy, Timestamp};

use super::{id, ids, millis, not_zero, some_millis, texts, unknown};
use crate::contract::Error;
use crate::model::{
    BatchSpec, DEFAULT_QUEUE, Failure, OnParentFailure, Progress, Resolution, State,
};
use crate::request::{Direction, Standing, Verdict};

/// Conversions of an enumeration whose value 0 is "unspecified".
macro_rules! enumeration {
    ($ours:ident, $theirs:ident, $field:literal, [$($variant:ident),+]) => {
        impl From<$ours> for proto::$theirs {
            fn from(value: $ours) -> Self {
                match value { $( $ours::$variant => proto::$theirs::$variant, )+ }
            }
        }

        impl From<&$ours> for proto::$theirs {
            fn from(value: &$ours) -> Self {
                (*value).into()
            }
        }

        impl TryFrom<proto::$theirs> for $ours {
            type Error = Error;

            fn try_from(value: proto::$theirs) -> Result<Self, Error> {
                match value {
                    $( proto::$theirs::$variant => Ok($ours::$variant), )+
                    proto::$theirs::Unspecified => Err(Error::Invalid {
                        field: $field,
                        problem: "is not given".to_owned(),
                    }),
                }
            }
        }

        impl $ours {
            /// From the number on the wire.
            pub(crate) fn from_wire(value: i32) -> Result<Self, Error> {
                proto::$theirs::try_from(value).map_err(|_| unknown($field, value))?.try_into()
            }

            /// The number on the wire.
            pub(crate) fn to_wire(self) -> i32 {
                proto::$theirs::from(self) as i32
            }
        }
    };
}

enumeration!(
    State,
    State,
    "state",
    [Waiting, Pending, Scheduled, Processing, Completed, Failed, Cancelled, Expired]
);
enumeration!(Direction, Direction, "direction", [Ancestors, Descendants]);
enumeration!(Resolution, Result, "result", [Completed, Failed, Released]);
enumeration!(Verdict, Verdict, "verdict", [Applied, AlreadyDone, Stale, NotFound]);
enumeration!(Standing, Standing, "standing", [Current, Settled, Stale, NotFound]);
enumeration!(OnParentFailure, OnParentFailure, "on_parent_failure", [Fail, Wait, Cancel]);

/// A state where 0 on the wire means none.
pub(super) fn state(value: i32) -> Result<Option<State>, Error> {
    if value == 0 { Ok(None) } else { State::from_wire(value).map(Some) }
}

impl From<&RetryPolicyRef<'_>> for proto::RetryPolicy {
    fn from(RetryPolicyRef(policy): &RetryPolicyRef<'_>) -> Self {
        proto::RetryPolicy {
            max_retries: policy.max_retries,
            base_ms: policy.base_ms,
            factor: policy.factor,
            cap_ms: policy.cap_ms,
            jitter: policy.jitter,
            deadline_ms: policy.deadline_ms,
        }
    }
}

/// A policy of another crate, on its way to a message of another crate.
pub(super) struct RetryPolicyRef<'a>(pub(super) &'a RetryPolicy);

pub(super) fn policy(message: &proto::RetryPolicy) -> Result<RetryPolicy, Error> {
    let finite = |field: &'static str, value: f64| {
        if value.is_finite() && value >= 0.0 {
            return Ok(value);
        }
        Err(Error::Invalid { field, problem: format!("{value} is no finite number from 0 up") })
    };
    Ok(RetryPolicy {
        max_retries: message.max_retries,
        base_ms: message.base_ms,
        factor: finite("retry.factor", message.factor)?,
        cap_ms: message.cap_ms,
        jitter: finite("retry.jitter", message.jitter)?,
        deadline_ms: message.deadline_ms,
    })
}

impl From<&BatchSpec> for proto::BatchSpec {
    fn from(spec: &BatchSpec) -> Self {
        proto::BatchSpec {
            id: spec.id.as_str().to_owned(),
            queue: spec.queue.clone(),
            priority: spec.priority,
            tenant: spec.tenant.clone(),
            partition_key: spec.partition_key.clone(),
            parents: texts(&spec.parents),
            depends_on: texts(&spec.depends_on),
            on_parent_failure: spec.on_parent_failure.to_wire(),
            retry: spec.retry.as_ref().map(|policy| (&RetryPolicyRef(policy)).into()),
            delay_ms: millis(spec.delay),
            locations: spec.locations.clone(),
            rows: spec.rows,
            bytes: spec.bytes,
            checksum: spec.checksum.clone(),
            schema_fingerprint: spec.schema_fingerprint.clone(),
            dedup_key: spec.dedup_key.clone(),
            dedup_window_ms: millis(spec.dedup_window),
            expires_after_ms: some_millis(spec.expires_after),
            trace_context: spec.trace_context.clone(),
        }
    }
}

impl TryFrom<proto::BatchSpec> for BatchSpec {
    type Error = Error;

    /// An empty queue is the default one; an unspecified `on_parent_failure` is `fail`.
    fn try_from(message: proto::BatchSpec) -> Result<Self, Error> {
        let on_parent_failure = match message.on_parent_failure {
            0 => OnParentFailure::Fail,
            value => OnParentFailure::from_wire(value)?,
        };
        let queue = if message.queue.is_empty() { DEFAULT_QUEUE.to_owned() } else { message.queue };
        Ok(BatchSpec {
            id: id("id", &message.id)?,
            queue,
            priority: message.priority,
            tenant: message.tenant,
            partition_key: message.partition_key,
            parents: ids("parents", &message.parents)?,
            depends_on: ids("depends_on", &message.depends_on)?,
            on_parent_failure,
            retry: message.retry.as_ref().map(policy).transpose()?,
            delay: Duration::from_millis(message.delay_ms),
            locations: message.locations,
            rows: message.rows,
            bytes: message.bytes,
            checksum: message.checksum,
            schema_fingerprint: message.schema_fingerprint,
            dedup_key: message.dedup_key,
            dedup_window: Duration::from_millis(message.dedup_window_ms),
            expires_after: not_zero(message.expires_after_ms),
            trace_context: message.trace_context,
        })
    }
}

impl From<&Failure> for proto::Failure {
    fn from(failure: &Failure) -> Self {
        proto::Failure {
            code: failure.code.as_str().to_owned(),
            message: failure.message.clone(),
            permanent: failure.permanent,
            at: failure.at.as_micros(),
        }
    }
}

impl TryFrom<proto::Failure> for Failure {
    type Error = Error;

    /// A code that this version does not know reads as `internal`.
    fn try_from(message: proto::Failure) -> Result<Self, Error> {
        Ok(Failure {
            code: message.code.parse().unwrap_or(Code::Internal),
            message: message.message,
            permanent: message.permanent,
            at: Timestamp::from_micros(message.at),
        })
    }
}

impl From<&Progress> for proto::Progress {
    fn from(progress: &Progress) -> Self {
        proto::Progress {
            rows_done: progress.rows_done,
            rows_total: progress.rows_total,
            note: progress.note.clone(),
        }
    }
}

impl TryFrom<proto::Progress> for Progress {
    type Error = Error;

    fn try_from(message: proto::Progress) -> Result<Self, Error> {
        Ok(Progress {
            rows_done: message.rows_done,
            rows_total: message.rows_total,
            note: message.note,
        })
    }
}
