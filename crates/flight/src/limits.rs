//! What one server takes at most.

use std::time::Duration;

use sheaf_retry::Code;

use crate::error::Error;

/// The largest message that gRPC implementations of every language can take:
/// protobuf lengths are signed 32-bit numbers in some of them.
pub const MAX_MESSAGE_BYTES: usize = (1 << 31) - 1;

/// The limits of one server; each refusal names the field here, is counted in
/// `sheaf_flight_rejected_total{limit="…"}` and has a stable code.
///
/// | field | refused with | label |
/// |---|---|---|
/// | `max_message_bytes` | `limit_exceeded` | `message` |
/// | `max_schema_bytes` | `limit_exceeded` | `schema` |
/// | `max_action_bytes` | `limit_exceeded` | `action` |
/// | `max_calls`, `max_calls_per_peer` | `overloaded`, try again in 100 ms | `calls`, `calls_per_peer` |
/// | `calls=` of a token, by its line in the token file | `overloaded`, try again in 100 ms | `calls_per_token` |
/// | `max_connections` | the connection that made no call for longest goes, if for ten seconds; otherwise the new one is closed | `connections` |
/// | ten seconds for a TLS handshake, which also has to succeed | closed | `handshake` |
/// | `put_idle_timeout` | `deadline_exceeded` | `idle` |
/// | `get_idle_timeout` | the stream is reset, in metrics `deadline_exceeded` | `reader` |
/// | the memory budget | `memory_full`, try again in 1 s; a connection is closed | `memory` |
/// | `max_sessions`, and a quarter of it for one token, or one address without | `overloaded` | `sessions` |
/// | 64 calls of health and reflection, 16 from one address, beside `max_calls` | `overloaded`, try again in 100 ms | `background_calls` |
/// | 64 KiB for a request that moves no data, and for the body of a standard action | `limit_exceeded` | `message`, `action` |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, header, metadata and body, in both directions.
    pub max_message_bytes: usize,
    /// Bytes of the schema message of a put or an exchange.
    pub max_schema_bytes: usize,
    /// Bytes of the body of one action.
    pub max_action_bytes: usize,
    /// Calls of all kinds under way at once, open streams included.
    pub max_calls: usize,
    /// The same from one IP address.
    pub max_calls_per_peer: usize,
    /// Open connections.
    pub max_connections: usize,
    /// How long a client that owes the server bytes may be silent; so also one
    /// that has connected and said nothing yet.
    pub put_idle_timeout: Duration,
    /// How long an answer may wait for its reader to take some of it (one that
    /// waits for the handler may wait on): after that, and at the latest after
    /// twice as long, its stream is reset.
    pub get_idle_timeout: Duration,
    /// Arrow sessions kept at once.
    pub max_sessions: usize,
    /// How long a session is kept after its last use.
    pub session_idle: Duration,
}

impl Limits {
    /// The defaults for a server that may use `budget_bytes` of memory: one
    /// message may take a quarter of it, and never more than 2 GiB - 1.
    ///
    /// ```
    /// use sheaf_flight::Limits;
    ///
    /// assert_eq!(Limits::for_memory(4 << 30).max_message_bytes, 1 << 30);
    /// assert_eq!(Limits::for_memory(64 << 30).max_message_bytes, (1 << 31) - 1);
    /// ```
    pub fn for_memory(budget_bytes: u64) -> Self {
        let quarter = usize::try_from(budget_bytes / 4).unwrap_or(MAX_MESSAGE_BYTES);
        Limits {
            max_message_bytes: quarter.clamp(1, MAX_MESSAGE_BYTES),
            max_schema_bytes: 16 << 20,
            max_action_bytes: 16 << 20,
            max_calls: 4_096,
            max_calls_per_peer: 2_048,
            max_connections: 1_024,
            put_idle_timeout: Duration::from_secs(60),
            get_idle_timeout: Duration::from_secs(60),
            max_sessions: 1_024,
            session_idle: Duration::from_secs(30 * 60),
        }
    }

    /// Refuses limits that would refuse everything.
    ///
    /// # Errors
    /// `invalid_argument`, naming every field that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let counts = [
            ("max_message_bytes", self.max_message_bytes),
            ("max_schema_bytes", self.max_schema_bytes),
            ("max_action_bytes", self.max_action_bytes),
            ("max_calls", self.max_calls),
            ("max_calls_per_peer", self.max_calls_per_peer),
            ("max_connections", self.max_connections),
            ("max_sessions", self.max_sessions),
        ];
        let mut wrong: Vec<String> = counts
            .iter()
            .filter(|(_, value)| *value == 0)
            .map(|(name, _)| format!("{name} is 0, it must be at least 1"))
            .collect();
        if self.max_message_bytes > MAX_MESSAGE_BYTES {
            wrong.push(format!(
                "max_message_bytes is {}, gRPC takes at most {MAX_MESSAGE_BYTES}",
                self.max_message_bytes
            ));
        }
        for (name, value) in [
            ("put_idle_timeout", self.put_idle_timeout),
            ("get_idle_timeout", self.get_idle_timeout),
            ("session_idle", self.session_idle),
        ] {
            if value.is_zero() {
                wrong.push(format!("{name} is 0, it must be longer"));
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::new(Code::InvalidArgument, wrong.join("; ")))
    }
}

impl Default for Limits {
    /// As [`Limits::for_memory`] with 2 GiB: messages of up to 512 MiB.
    fn default() -> Self {
        Limits::for_memory(2 << 30)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_retry::Retryable as _;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Limits::default().validate().is_ok());
        assert_eq!(Limits::default().max_message_bytes, 512 << 20);
        assert_eq!(Limits::for_memory(0).max_message_bytes, 1);
    }

    #[test]
    fn every_wrong_field_is_named_at_once() {
        let limits = Limits {
            max_calls: 0,
            max_message_bytes: MAX_MESSAGE_BYTES + 1,
            put_idle_timeout: Duration::ZERO,
            ..Limits::default()
        };
        let error = limits.validate().unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        for name in ["max_calls ", "max_message_bytes ", "put_idle_timeout "] {
            assert!(error.message().contains(name), "{error}");
        }
    }
}
