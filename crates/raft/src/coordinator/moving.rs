//! The state of a running cluster is moved by a process that is no node of it.
//!
//! One action of Flight, `RaftMigrate`, does one call of a [`RaftEndpoint`](super::RaftEndpoint)
//! on the node that leads; whichever node is asked passes it on. [`RemoteEndpoint`] is the
//! other end. Batches travel in parts of half a megabyte.

mod actions;
mod remote;
mod wire;

pub use actions::MigrationActions;
pub use remote::RemoteEndpoint;

/// The action.
const ACTION: &str = "RaftMigrate";

/// Bytes of batches after which a message is full; one batch is let through whatever its size.
const PART_BYTES: usize = 512 << 10;
