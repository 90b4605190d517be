//! How a transport is set up.

use std::time::Duration;

use sheaf_flight::{ClientSecurity, Exposure, MAX_MESSAGE_BYTES, Security};
use sheaf_retry::RetryPolicy;

use crate::frame::HEADER_BYTES;
use crate::{Error, NodeId};

/// Longest cluster id.
const MAX_CLUSTER_ID: usize = 64;

/// How large bodies of frames travel. Frames of the control lane never are
/// compressed, and Arrow messages of bulk transfers are as their sender made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    Off,
    /// As zstd where that saves a tenth; where it did not, the next frames are not tried.
    Zstd {
        /// From 1, the fastest, to 22.
        level: i32,
        /// Smaller bodies go as they are.
        from_bytes: usize,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Compression::Zstd { level: 1, from_bytes: 4 << 10 }
    }
}

/// What may be under way to one peer on one lane and not answered yet. It begins
/// with `requests` and `bytes`, and grows up to the others as long as answers do
/// not come later for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// Requests at first, and at least.
    pub requests: usize,
    /// Bytes at first, and at least.
    pub bytes: usize,
    /// Requests at the most.
    pub max_requests: usize,
    /// Bytes at the most.
    pub max_bytes: usize,
}

impl Default for WindowConfig {
    fn default() -> Self {
        WindowConfig { requests: 2, bytes: 8 << 20, max_requests: 1_024, max_bytes: 64 << 20 }
    }
}

/// How a transport is set up; [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Nodes of other clusters are refused: 1 to 64 of `[A-Za-z0-9._-]`.
    pub cluster_id: String,
    /// This node.
    pub node_id: NodeId,
    /// Bytes of one message, header and payloads; the same on every node.
    pub max_message_bytes: usize,
    /// Bytes of one Arrow message of a bulk transfer.
    pub max_bulk_message_bytes: usize,
    /// Messages that wait are put into one frame up to so many bytes.
    pub batch_bytes: usize,
    /// What may be under way.
    pub window: WindowConfig,
    /// How large bodies travel.
    pub compression: Compression,
    /// Delays before an address that did not answer is tried again.
    pub reconnect: RetryPolicy,
    /// Seed of the jitter of `reconnect`, and of session numbers.
    pub seed: u64,
    /// How long a connection and its hello may take.
    pub connect_timeout: Duration,
    /// How long [`connect_to_peer`](crate::RaftTransport::connect_to_peer) goes on trying.
    pub connect_patience: Duration,
    /// How long [`send_message`](crate::RaftTransport::send_message) waits for a reply.
    pub message_timeout: Duration,
    /// How long a request of a stream may be without a reply.
    pub reply_timeout: Duration,
    /// Messages that wait for [`receive_message`](crate::RaftTransport::receive_message).
    pub inbox_messages: usize,
    /// Their bytes.
    pub inbox_bytes: usize,
    /// Peers at once.
    pub max_peers: usize,
    /// TLS and token towards peers: CA, own certificate, bearer.
    pub security: ClientSecurity,
    /// TLS and tokens of the own port, where the transport listens by itself.
    pub server_security: Security,
    /// Who may reach the own port, where the transport listens by itself.
    /// [`Exposure::Secured`] needs TLS and tokens, or TLS and `needs_certificates`.
    pub exposure: Exposure,
    /// Certificates of peers have to name their node ([`certificate_name`](crate::certificate_name)),
    /// and who has none is refused. Without, a certificate that a caller shows has
    /// to name it all the same; who shows none is believed.
    pub needs_certificates: bool,
}

impl Config {
    /// Delays before an address is tried again: 50 ms to 5 s, a fifth spread.
    pub const RECONNECT: RetryPolicy = RetryPolicy {
        max_retries: 1_000,
        base_ms: 50,
        factor: 2.0,
        cap_ms: 5_000,
        jitter: 0.2,
        deadline_ms: None,
    };

    /// The defaults for a node.
    pub fn new(cluster_id: impl Into<String>, node_id: NodeId) -> Self {
        Config {
            cluster_id: cluster_id.into(),
            node_id,
            max_message_bytes: 1 << 20,
            max_bulk_message_bytes: 16 << 20,
            batch_bytes: 256 << 10,
            window: WindowConfig::default(),
            compression: Compression::default(),
            reconnect: Config::RECONNECT,
            seed: node_id,
            connect_timeout: Duration::from_secs(2),
            connect_patience: Duration::from_secs(5),
            message_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(10),
            inbox_messages: 1_024,
            inbox_bytes: 64 << 20,
            max_peers: 64,
            security: ClientSecurity::default(),
            server_security: Security::none(),
            exposure: Exposure::Loopback,
            needs_certificates: false,
        }
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that is wrong.
    pub fn validate(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let id = &self.cluster_id;
        if !(1..=MAX_CLUSTER_ID).contains(&id.len()) || !id.chars().all(allowed) {
            let id: String = id.chars().take(MAX_CLUSTER_ID).collect();
            problems
                .push(format!("cluster_id {id:?} is not 1 to {MAX_CLUSTER_ID} of [A-Za-z0-9._-]"));
        }
        self.check_sizes(&mut problems);
        for problem in self.reconnect.validate().err().unwrap_or_default() {
            problems.push(format!("reconnect.{problem}"));
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("connect_patience", self.connect_patience),
            ("message_timeout", self.message_timeout),
            ("reply_timeout", self.reply_timeout),
        ] {
            if value.is_zero() {
                problems.push(format!("{name} is 0, it must be longer"));
            }
        }
        if let Compression::Zstd { level, .. } = self.compression
            && !(1..=22).contains(&level)
        {
            problems.push(format!("compression level {level} is not between 1 and 22"));
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Config { problems }) }
    }

    fn check_sizes(&self, problems: &mut Vec<String>) {
        let window = self.window;
        for (name, value, least, most) in [
            ("max_message_bytes", self.max_message_bytes, 1, MAX_MESSAGE_BYTES / 4),
            ("max_bulk_message_bytes", self.max_bulk_message_bytes, 1 << 10, MAX_MESSAGE_BYTES / 2),
            ("batch_bytes", self.batch_bytes, 1, 64 << 20),
            ("window.requests", window.requests, 1, window.max_requests),
            ("window.max_requests", window.max_requests, 1, 1 << 20),
            ("window.bytes", window.bytes, self.max_message_bytes, window.max_bytes),
            ("inbox_messages", self.inbox_messages, 1, 1 << 20),
            ("inbox_bytes", self.inbox_bytes, self.max_message_bytes, usize::MAX),
            ("max_peers", self.max_peers, 1, 4_096),
        ] {
            if value < least || value > most {
                problems.push(format!("{name} is {value}, allowed are {least} to {most}"));
            }
        }
    }

    /// Bytes of one frame of packets, unpacked and without its fixed part: a batch,
    /// and a message that still went into it, with their tables.
    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.batch_bytes + 2 * self.max_message_bytes + (64 << 10)
    }

    /// Bytes of one Flight message of the namespace.
    pub(crate) fn max_flight_bytes(&self) -> usize {
        self.max_frame_bytes().max(self.max_bulk_message_bytes + (64 << 10)) + HEADER_BYTES
    }
}
