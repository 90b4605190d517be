//! How to connect, and what to promise.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::Error;
use sheaf_coordinator::engine::Config as EngineConfig;

use crate::address::Address;
use crate::script::{Library, library};

/// When an answer counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When the primary has it in memory, and on disk as its own settings say.
    #[default]
    Async,
    /// When at least one replica has it in memory as well (`WAIT`).
    Replicated,
    /// When the primary has it on disk (`WAITAOF`; needs `appendonly yes`).
    Fsynced,
}

/// Everything that a connection needs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) address: Address,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) tls: Option<rustls::ClientConfig>,
    pub(crate) namespace: String,
    pub(crate) durability: Durability,
    pub(crate) connections: usize,
    pub(crate) timeout: Duration,
    pub(crate) poll: Duration,
    pub(crate) engine: EngineConfig,
    pub(crate) library: Arc<Library>,
    /// Fewer batches are never a block.
    pub(crate) smallest_block: usize,
}

/// Longest name of a namespace, bytes.
const MAX_NAMESPACE_BYTES: usize = 64;

impl Settings {
    pub(crate) fn new(address: Address) -> Self {
        Settings {
            address,
            username: None,
            password: None,
            tls: None,
            namespace: "sheaf".to_owned(),
            durability: Durability::Async,
            connections: 4,
            timeout: Duration::from_secs(5),
            poll: Duration::from_secs(5),
            engine: EngineConfig::default(),
            library: library(),
            smallest_block: crate::pack::MIN_BLOCK,
        }
    }

    /// What all keys begin with: the braces put them into one slot of a Cluster.
    pub(crate) fn prefix(&self) -> String {
        format!("{{{}}}:", self.namespace)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let name = &self.namespace;
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        if name.is_empty() || name.len() > MAX_NAMESPACE_BYTES || !name.chars().all(fits) {
            let problem = format!(
                "{name:?} is not 1 to {MAX_NAMESPACE_BYTES} of A-Z, a-z, 0-9, '.', '_', '-' and ':'"
            );
            return Err(Error::Invalid { field: "namespace", problem });
        }
        if self.timeout < Duration::from_millis(100) {
            let problem = format!("{:?} is under 100 ms", self.timeout);
            return Err(Error::Invalid { field: "timeout", problem });
        }
        if self.poll.is_zero() {
            let problem = "must not be zero".to_owned();
            return Err(Error::Invalid { field: "poll_interval", problem });
        }
        Ok(())
    }
}
