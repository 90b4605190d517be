//! How a client connects, and what one call carries.

use std::time::Duration;

use sheaf_retry::RetryPolicy;

use super::ClientSecurity;
use crate::limits::MAX_MESSAGE_BYTES;

/// How a [`ChannelPool`](crate::ChannelPool) connects.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// How long the answer to a call may take that sets no deadline of its own;
    /// `None` waits for ever. Streams may go on after their first answer.
    pub deadline: Option<Duration>,
    /// Bytes of one message, in both directions.
    pub max_message_bytes: usize,
    /// Targets with an open channel; the one unused for longest makes room.
    pub max_targets: usize,
    /// Retries of calls that only read, or are said to be idempotent.
    pub retry: RetryPolicy,
    /// Seed of the jitter of retries.
    pub seed: u64,
    /// TLS and token.
    pub security: ClientSecurity,
    /// The host that certificates of servers have to be for, in place of the one that is
    /// called: for servers that have one name among themselves, wherever they are.
    pub certificate_host: Option<String>,
    /// Every call says so in the header [`FORWARDED`](crate::FORWARDED): it is
    /// made on behalf of another one.
    pub is_forwarding: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            connect_timeout: Duration::from_secs(5),
            deadline: Some(Duration::from_secs(60)),
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_targets: 256,
            retry: RetryPolicy::transfer(),
            seed: 0,
            security: ClientSecurity::default(),
            certificate_host: None,
            is_forwarding: false,
        }
    }
}

/// Header of a call that another server passes on: it is answered from what is
/// here, so that servers that each believe that another one has the answer do
/// not ask each other for ever.
pub const FORWARDED: &str = "sheaf-forwarded";

/// Header of a put, which says how the server is to keep bodies that come
/// uncompressed (`none`, `lz4` or `zstd`), and of a get, which says how they
/// are wanted: the codecs that the client reads, the best one first, as in
/// `zstd, lz4`.
pub const COMPRESSION: &str = "sheaf-compression";

/// What one call carries besides its arguments.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Headers; names are lower case ASCII.
    pub headers: Vec<(String, String)>,
    /// How long the answer may take; `None` is [`ClientConfig::deadline`]. A
    /// put is over when the server has answered; it has no deadline but its own.
    pub deadline: Option<Duration>,
    /// Overrides [`ClientConfig::retry`] for this call.
    pub retry: Option<RetryPolicy>,
    /// The same call twice does what it does once: an action may be retried.
    pub idempotent: bool,
}

impl CallOptions {
    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Overrides the retries.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = Some(policy);
        self
    }

    /// Says that the call may be made twice.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}
