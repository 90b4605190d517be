//! What a registry does wrong on command.

use std::time::Duration;

/// How a [`SchemaRegistry`](crate::SchemaRegistry) fails, for every request
/// while it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryFault {
    /// The right answer, late.
    Delay(Duration),
    /// Never an answer, on a connection that stays.
    Hang,
    /// This status, with an error body of Confluent's.
    Status(u16),
    /// Status 200 with this body whatever was asked: one that is not JSON, or
    /// JSON of another form.
    Body(Vec<u8>),
    /// Every id is answered with this schema: a lie that looks true.
    Schema(String),
    /// The right answer, cut off in the middle of its body.
    Truncated,
}
