//! What is replicated: a state machine of the user's own.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;

/// Why a state machine cannot be what it should: of its own code, or of what it reads.
pub type MachineError = Box<dyn std::error::Error + Send + Sync>;

/// One committed command.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Where it stands in the log: greater than of all before.
    pub index: u64,
    /// The term of the leader that put it there: never smaller than before.
    pub term: u64,
    /// As it was proposed.
    pub command: &'a Bytes,
}

/// A digest that is being made, in the machine's own terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestSoFar {
    /// Of what was looked at.
    pub sum: u64,
    /// Where to go on.
    pub after: u64,
    /// The state that it is of: another number after each change.
    pub version: u64,
    /// How often it was begun anew.
    pub restarts: u32,
}

/// A state that every node of a cluster has, as all apply the same commands.
///
/// 1. `apply` is a pure function of the state and of the command: it reads no
///    clock, no file and no chance. Time and randomness come in the command.
/// 2. `apply` answers a command that it cannot read with bytes that say so;
///    it does not panic, and it changes nothing then.
/// 3. Two nodes that applied the same commands have the same `digest`, also
///    where one of them came by a snapshot to where it is.
/// 4. A snapshot is what the state was at `begin_snapshot`, whatever is
///    applied while its batches are taken. There is one at a time.
/// 5. `restore` replaces the whole state; where it fails, the node stops, and
///    what it had is still on disk.
pub trait StateMachine: Send + 'static {
    /// Does one command and answers it. Called in the order of the log.
    fn apply(&mut self, entry: Applied<'_>) -> Bytes;

    /// Of the record batches of a snapshot.
    fn schema(&self) -> SchemaRef;

    /// Fixes the point that the next snapshot is of; gives up the one before.
    ///
    /// # Errors
    /// Those of the machine.
    fn begin_snapshot(&mut self) -> Result<(), MachineError>;

    /// The next record batch of the snapshot, of about a megabyte; `None` at its
    /// end. Commands are applied between two calls.
    ///
    /// # Errors
    /// Those of the machine; the snapshot is then given up.
    fn snapshot_part(&mut self) -> Result<Option<RecordBatch>, MachineError>;

    /// Becomes what a snapshot holds, written by this version or one before.
    ///
    /// # Errors
    /// Those of reading, and what is wrong with what was read.
    fn restore(
        &mut self,
        batches: &mut dyn Iterator<Item = Result<RecordBatch, MachineError>>,
    ) -> Result<(), MachineError>;

    /// Told after `restore`: the last entry that the snapshot has.
    fn restored(&mut self, index: u64) {
        let _ = index;
    }

    /// A hash of the whole state, to compare nodes.
    fn digest(&mut self) -> u64;

    /// `digest`, a part at a time, so that commands and heartbeats need not wait for a large
    /// state: `None` where it has to be called again. Where something was applied between two
    /// parts, it begins anew by itself.
    fn digest_part(&mut self, so_far: &mut DigestSoFar) -> Option<u64> {
        let _ = so_far;
        Some(self.digest())
    }

    /// Whether it computes the digest of a snapshot from the batches as they are taken, as one
    /// with a large state should: else `digest` is called where the snapshot begins, and
    /// commands wait for it.
    fn copies_digest(&self) -> bool {
        false
    }

    /// After the last batch, where `copies_digest`: what `digest` would have been where the
    /// snapshot began.
    fn copied_digest(&mut self) -> u64 {
        self.digest()
    }
}
