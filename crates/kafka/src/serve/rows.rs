//! The rows that a ticket asks for, as messages.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use futures::stream::{self, StreamExt as _};
use sheaf_flight::ipc::{Compression, Encoder};
use sheaf_flight::{Message, MessageStream};

use crate::error::Error;
use crate::filter::unknown_column;
use crate::schema::conform;
use crate::stream::{Reader, TopicStream};
use crate::ticket::Ticket;

/// What a ticket asks for: the schema, then rows as they are there.
pub(super) fn messages(stream: Arc<TopicStream>, ticket: Ticket) -> MessageStream {
    let first = stream::once(begin(stream, ticket));
    let messages = first.flat_map(|begun| match begun {
        Err(error) => stream::iter([Err(error.into())]).boxed(),
        Ok((schema, sending)) => {
            let rest = stream::try_unfold(sending, Sending::step).flat_map(|step| {
                stream::iter(match step {
                    Ok(messages) => messages.into_iter().map(Ok).collect::<Vec<_>>(),
                    Err(error) => vec![Err(error.into())],
                })
            });
            stream::iter([Ok(schema)]).chain(rest).boxed()
        }
    });
    messages.boxed()
}

/// One answer under way.
struct Sending {
    stream: Arc<TopicStream>,
    reader: Reader,
    ticket: Ticket,
    /// Columns of the reader's schema that are sent.
    projection: Option<Vec<usize>>,
    encoder: Encoder,
    left: u64,
}

async fn begin(stream: Arc<TopicStream>, ticket: Ticket) -> Result<(Message, Sending), Error> {
    if ticket.selection.follow {
        // There is no schema before the first row.
        stream.wait_for_rows().await;
    }
    let reader = stream.read(ticket.selection)?;
    let schema = Arc::clone(reader.schema());
    if let Some((_, filter)) = &ticket.filter {
        filter.check(&schema)?;
    }
    let projection = match &ticket.columns {
        None => None,
        Some(columns) => Some(indices(columns, &schema)?),
    };
    let sent = match &projection {
        None => Arc::clone(&schema),
        Some(indices) => Arc::new(
            schema
                .project(indices)
                .map_err(|source| Error::Arrow { operation: "choose columns", source })?,
        ),
    };
    let (encoder, first) = Encoder::try_new(sent, Compression::None).map_err(Error::Flight)?;
    let left = ticket.limit.unwrap_or(u64::MAX);
    Ok((first, Sending { stream, reader, ticket, projection, encoder, left }))
}

fn indices(columns: &[String], schema: &Schema) -> Result<Vec<usize>, Error> {
    let index = |name: &String| schema.index_of(name).map_err(|_| unknown_column(name, schema));
    columns.iter().map(index).collect()
}

impl Sending {
    async fn step(mut self) -> Result<Option<(Vec<Message>, Self)>, Error> {
        while self.left > 0 {
            let Some(rows) = self.reader.next().await? else { return Ok(None) };
            let rows = self.wanted(rows)?;
            if rows.num_rows() == 0 {
                continue;
            }
            self.left -= rows.num_rows() as u64;
            let messages = self.encoder.encode(&rows).map_err(Error::Flight)?;
            let bytes: usize = messages.iter().map(Message::len).sum();
            let metrics = self.stream.metrics();
            metrics.rows_served.inc_by(rows.num_rows() as u64);
            metrics.bytes_served.inc_by(bytes as u64);
            return Ok(Some((messages, self)));
        }
        Ok(None)
    }

    /// What the ticket asks for of some rows.
    fn wanted(&self, rows: RecordBatch) -> Result<RecordBatch, Error> {
        // What came before a change lacks what came since.
        let rows = conform(&rows, self.reader.schema())?;
        let rows = match &self.ticket.filter {
            None => rows,
            Some((_, filter)) => filter.apply(&rows)?,
        };
        let rows = match &self.projection {
            None => rows,
            Some(indices) => rows
                .project(indices)
                .map_err(|source| Error::Arrow { operation: "choose columns", source })?,
        };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(if rows.num_rows() > most { rows.slice(0, most) } else { rows })
    }
}
