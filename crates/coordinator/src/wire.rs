//! The model as Protocol Buffers messages, and back.
//!
//! Towards the wire nothing can fail: `proto::X::from(&x)`. From the wire
//! everything is checked: `X::try_from(message)` names the field that does not
//! fit. Lists that have a message of their own but no type in the model go
//! through the functions here.
//!
//! Times are microseconds since 1970, 0 where there is none; durations are
//! milliseconds, rounded up, so that a short one does not become none.
//!
//! ```
//! use sheaf_coordinator::{BatchSpec, wire};
//!
//! let spec = BatchSpec::new("orders:1".parse()?);
//! let message = wire::register_request(std::slice::from_ref(&spec));
//! assert_eq!(wire::specs(message)?, [spec]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod calls;
mod control;
mod lineage;
mod policy;
mod query;
mod spec;

use std::time::Duration;

use prost::Message as _;
use sheaf_proto::BatchId;
use sheaf_proto::coordinator::v1 as proto;
use sheaf_retry::{RetryPolicy, Timestamp};

use crate::contract::Error;
use crate::model::BatchSpec;
use crate::request::{Extended, Extension, Registered};

/// The request of `Register`.
pub fn register_request(specs: &[BatchSpec]) -> proto::RegisterRequest {
    proto::RegisterRequest { batches: to_all(specs) }
}

/// What a `Register` asks for.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn specs(message: proto::RegisterRequest) -> Result<Vec<BatchSpec>, Error> {
    from_all(message.batches)
}

/// A retry policy as a message.
pub fn retry_policy(policy: &RetryPolicy) -> proto::RetryPolicy {
    (&spec::RetryPolicyRef(policy)).into()
}

/// What [`retry_policy`] was given.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn to_retry_policy(message: &proto::RetryPolicy) -> Result<RetryPolicy, Error> {
    spec::policy(message)
}

/// A specification as bytes, for whoever keeps it.
pub fn encode_spec(spec: &BatchSpec) -> Vec<u8> {
    proto::BatchSpec::from(spec).encode_to_vec()
}

/// What [`encode_spec`] was given.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn decode_spec(bytes: &[u8]) -> Result<BatchSpec, Error> {
    let message = proto::BatchSpec::decode(bytes).map_err(|error| Error::Invalid {
        field: "spec",
        problem: format!("is no specification of a batch: {error}"),
    })?;
    BatchSpec::try_from(message)
}

/// The response of `Register`.
pub fn register_response(registered: &[Registered]) -> proto::RegisterResponse {
    proto::RegisterResponse { batches: to_all(registered) }
}

/// What a `Register` answered.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn registered(message: proto::RegisterResponse) -> Result<Vec<Registered>, Error> {
    from_all(message.batches)
}

/// The request of `Extend`.
pub fn extend_request(leases: &[Extension]) -> proto::ExtendRequest {
    proto::ExtendRequest { leases: to_all(leases) }
}

/// What an `Extend` asks for.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn extensions(message: proto::ExtendRequest) -> Result<Vec<Extension>, Error> {
    from_all(message.leases)
}

/// The response of `Extend`.
pub fn extend_response(leases: &[Extended]) -> proto::ExtendResponse {
    proto::ExtendResponse { leases: to_all(leases) }
}

/// What an `Extend` answered.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn extended(message: proto::ExtendResponse) -> Result<Vec<Extended>, Error> {
    from_all(message.leases)
}

fn to_all<'a, M, P: From<&'a M>>(items: &'a [M]) -> Vec<P> {
    items.iter().map(P::from).collect()
}

fn from_all<M: TryFrom<P, Error = Error>, P>(items: Vec<P>) -> Result<Vec<M>, Error> {
    items.into_iter().map(M::try_from).collect()
}

fn some<M: TryFrom<P, Error = Error>, P>(item: Option<P>) -> Result<Option<M>, Error> {
    item.map(M::try_from).transpose()
}

fn id(field: &'static str, text: &str) -> Result<BatchId, Error> {
    BatchId::try_new(text).map_err(|problem| Error::Invalid { field, problem: problem.to_string() })
}

fn ids(field: &'static str, texts: &[String]) -> Result<Vec<BatchId>, Error> {
    texts.iter().map(|text| id(field, text)).collect()
}

fn texts(ids: &[BatchId]) -> Vec<String> {
    ids.iter().map(|id| id.as_str().to_owned()).collect()
}

fn required<T>(field: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::Invalid { field, problem: "is missing".to_owned() })
}

fn unknown(field: &'static str, value: i32) -> Error {
    Error::Invalid { field, problem: format!("{value} is no value that this version knows") }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A duration where 0 on the wire means none.
fn some_millis(duration: Option<Duration>) -> u64 {
    duration.map_or(0, |duration| millis(duration).max(1))
}

fn not_zero(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

fn micros(time: Option<Timestamp>) -> u64 {
    time.map_or(0, Timestamp::as_micros)
}

fn time(micros: u64) -> Option<Timestamp> {
    (micros > 0).then(|| Timestamp::from_micros(micros))
}

fn not_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
