//! What an engine sends, and over which connection.

use bytes::Bytes;

/// Names a node for as long as its cluster lives.
pub type NodeId = u64;

/// One message of an engine. Cloning copies no data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// What the engine reads at once: small, it is copied once on the way.
    pub meta: Bytes,
    /// What the engine passes on, such as entries of its log: pieces from 64 KiB on
    /// leave the process as they lie in memory.
    pub payloads: Vec<Bytes>,
}

impl Packet {
    /// A message without payloads.
    pub fn of(meta: impl Into<Bytes>) -> Self {
        Packet { meta: meta.into(), payloads: Vec::new() }
    }

    /// Bytes of header and payloads.
    pub fn len(&self) -> usize {
        self.payloads.iter().fold(self.meta.len(), |sum, one| sum.saturating_add(one.len()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One of the three connections to a peer: what stands still on one holds up
/// nothing on the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Heartbeats, votes, administration: short, and never compressed.
    Control,
    /// The log.
    Data,
    /// Snapshots.
    Bulk,
}

impl Lane {
    /// All of them.
    pub const ALL: [Lane; 3] = [Lane::Control, Lane::Data, Lane::Bulk];

    /// Its name in health, metrics and errors.
    pub const fn as_str(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Data => "data",
            Lane::Bulk => "bulk",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Lane::Control => 0,
            Lane::Data => 1,
            Lane::Bulk => 2,
        }
    }
}
