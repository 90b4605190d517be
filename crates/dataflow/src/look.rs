//! Looks at what goes over an edge of a pipeline that runs.

use arrow_array::RecordBatch;
use futures::StreamExt as _;
use sheaf_flight::ipc::{Bounds, Decoded, Decoder};
use sheaf_flight::{CallOptions, ChannelPool, Error, MessageStream, Secret};

use crate::wire::{self, Missed, TAPS, TOKEN_HEADER};

/// A live copy of what one instance sends over an edge.
///
/// It begins with the first batch that is sent after it was opened. The edge never waits for
/// it: what is not taken in time is left out and counted. Batches are as the sender made them,
/// before they are parted among its readers.
///
/// ```no_run
/// # use sheaf_dataflow::Look;
/// # use sheaf_flight::{ChannelPool, Secret};
/// # async fn look(pool: &ChannelPool, token: &Secret) -> Result<(), sheaf_flight::Error> {
/// let mut look = Look::open(pool, "grpc://127.0.0.1:50051", "orders:large", token).await?;
/// while let Some(glimpse) = look.next().await? {
///     println!("{} rows, {} missed", glimpse.batch.num_rows(), glimpse.missed_rows);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Look {
    messages: MessageStream,
    decoder: Decoder,
}

/// A batch that went over an edge.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// Its rows.
    pub batch: RecordBatch,
    /// Batches left out since the look began.
    pub missed_batches: u64,
    /// Rows of those.
    pub missed_rows: u64,
}

impl Look {
    /// Begins to look at an edge, by its name `FROM:TO`, at the address of the instance that
    /// sends; `token` is the data token of the run.
    ///
    /// # Errors
    /// `unauthenticated` for another token, `not_found` where this instance does not send over
    /// this edge, and those of the connection.
    pub async fn open(
        pool: &ChannelPool,
        address: &str,
        edge: &str,
        token: &Secret,
    ) -> Result<Self, Error> {
        let options = CallOptions::default().header(TOKEN_HEADER, token.expose());
        let ticket = format!("{TAPS}/{edge}");
        let messages = pool.connection(address)?.get(ticket, &options).await?;
        let bounds = Bounds { max_rows: u64::MAX, ..Bounds::default() };
        Ok(Look { messages, decoder: Decoder::new(bounds) })
    }

    /// The next batch; `None` when the sender has no more. Cancel-safe.
    ///
    /// # Errors
    /// Those of the connection, and `malformed_data`.
    pub async fn next(&mut self) -> Result<Option<Glimpse>, Error> {
        while let Some(message) = self.messages.next().await.transpose()? {
            let Decoded::Batch(batch) = self.decoder.push(&message)? else { continue };
            let Missed { batches, rows } = wire::read("what was missed", &message.app_metadata)?;
            return Ok(Some(Glimpse { batch, missed_batches: batches, missed_rows: rows }));
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}
