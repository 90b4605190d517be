//! Backups of running servers, and the way back.
//!
//! A backup is a directory. What is in it lies as in a data directory, file
//! for file:
//!
//! ```text
//! MANIFEST.json            what it is of; written last, so that one without is not whole
//! FILES                    xxh3-128, length and name of every file below
//! coordinator.redb         the coordinator's state at one point in time
//! batches/XX/ID.arrow      payloads
//! batches/XX/ID.pin        and their marks
//! registered.log           how payloads were registered, and with which coordinator
//! ```
//!
//! What holds:
//!
//! 1. **Nothing that is needed is missing.** Every batch that is not over in
//!    the copied state, and whose payload was on that server, has it in the
//!    backup. So first all payloads are held (`Store::hold`), then the
//!    coordinator is copied, then the payloads that are there. What is put
//!    after the copy may be in the backup too; then its batch is registered
//!    again when the restored server starts, for the journal of registrations
//!    is copied last and the copied coordinator is one of another history.
//!    A payload that the server had lost before is named in the manifest.
//! 2. **The hold ends with the backup**: at its end, when its stream breaks,
//!    and a minute after a client that is still connected stopped reading.
//!    The backup is over then, too.
//! 3. **A backup is whole or none.** It is written to `NAME.partial`, read
//!    back and compared, synced, and then renamed. Restore refuses anything else.
//! 4. **Every byte is checked**: each file against `FILES`, that and the
//!    manifest against their own checksums, and each payload against the CRC32C
//!    of its messages and the xxh3-128 and length that its put was acknowledged with.
//! 5. **A restored directory is as the snapshot**: completed batches stay
//!    completed, leases end by themselves and their batches are pending again.
//!    Its fencing tokens are above those of the original and of the backup.
//!    A server refuses it until it is whole.
//!
//! The state and the payloads of a fleet are on several servers, each backed up
//! by a call of its own: **the coordinator first, then each Flight server, within
//! its `--ttl`**. A payload is there before its batch is registered, and stays for
//! the time to live after its batch is over; so what the copied state needs is
//! still there when its server is copied. What was put between the two is
//! registered again after a restore. The other way round, it would be in the
//! state and its payload in no backup. Where a payload is missing all the same, the restored server names its
//! batch in the log when it starts (`serve::reconcile`), and the batch fails with
//! `payload_lost` when it is claimed.

mod error;
mod list;
mod manifest;
mod place;
mod receive;
mod restore;
mod verify;
pub(crate) mod wire;

pub use error::Error;
pub use manifest::{Manifest, Missing};
pub(crate) use place::Place;
pub(crate) use receive::Receiver;
pub use restore::restore;
pub use verify::verify;

/// The coordinator's file, in a data directory and in a backup.
pub(crate) const COORDINATOR_FILE: &str = "coordinator.redb";

/// Whether a payload registered with these addresses is that of a server with
/// those. Without an address it is beside the coordinator.
pub(crate) fn is_here(locations: &[String], own: &[String]) -> bool {
    locations.is_empty() || locations.iter().any(|location| own.contains(location))
}
