//! Where results go: two-phase, fenced, exactly once.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use sheaf_proto::BatchId;

use crate::error::Error;

/// Names one attempt to write one batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommitKey {
    /// The batch.
    pub id: BatchId,
    /// The fencing token of the lease under which it is written.
    pub fence: u64,
}

/// What a sink holds for a batch after its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The attempt that won: the caller's own, or an earlier one's.
    pub fence: u64,
    /// Rows written by the winner.
    pub rows: u64,
    /// Whether this call made it.
    pub created: bool,
    /// Where it is, for people.
    pub place: String,
}

/// A place for results that takes every batch exactly once.
///
/// The caller's order is: `prepare`, write all, `finish`, then prove that the
/// lease still stands (`extend`), then `commit`, then settle.
///
/// 1. Nothing is visible to readers of the sink before `commit`.
/// 2. `commit` of a batch that is there already changes nothing and answers
///    the winner with `created: false`: the caller adopts it and settles.
/// 3. After an `Ok` of `commit` the rows survive a crash of the machine.
/// 4. A prepared write that is dropped or aborted leaves nothing visible;
///    leftovers of a crash are removed by `recover`.
/// 5. `committed` tells whether a batch is there, for a worker that died
///    between commit and settle.
///
/// The worker runtime drives each attempt on a thread of its own: these calls,
/// and those of [`PreparedWrite`], may block and compute there. Attempts run
/// side by side, so several writes may be open at once; `recover` is for
/// whoever starts the workers, before the first. A call is dropped at an await when its lease is lost, and
/// its write with it; one that blocks is waited for until it returns.
///
/// Errors say by their code whether the attempt is made again:
/// [`Error::io`] and [`Error::external`] make them. The `conformance` suite
/// (a feature) tests these rules on any sink.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Opens a write of one batch.
    async fn prepare(
        &self,
        key: &CommitKey,
        schema: SchemaRef,
    ) -> Result<Box<dyn PreparedWrite>, Error>;

    /// The winner of this batch, where there is one.
    async fn committed(&self, id: &BatchId) -> Result<Option<Committed>, Error>;

    /// Removes what crashed attempts left behind, where it is old enough to
    /// belong to nobody; answers how many.
    async fn recover(&self) -> Result<u64, Error>;

    /// Where it writes, for people: without secrets.
    fn describe(&self) -> String;
}

/// One batch on its way into a sink.
#[async_trait]
pub trait PreparedWrite: Send {
    /// Adds rows; they have the schema of `prepare`.
    async fn write(&mut self, rows: &RecordBatch) -> Result<(), Error>;

    /// Makes what was written durable, but not visible.
    async fn finish(&mut self) -> Result<(), Error>;

    /// Makes it visible, once: see the rules of [`Sink`].
    async fn commit(self: Box<Self>) -> Result<Committed, Error>;

    /// Throws it away.
    async fn abort(self: Box<Self>) -> Result<(), Error>;
}
