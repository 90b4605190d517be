//! What is asked of a gateway, and where to go on.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use sheaf_flight::ipc;
use sheaf_kafka::{Filter, Start, Ticket};
use sheaf_terminal::Failure;

use super::{ClientArgs, Connection, failed, options};

/// Rows that are shown where nothing else is said.
pub(super) const LIMIT: u64 = 10;

/// Rows as they come.
pub(super) type Batches = BoxStream<'static, Result<RecordBatch, sheaf_flight::Error>>;

/// Asks for rows: their columns, then the rows.
pub(super) async fn open(
    args: &ClientArgs,
    ticket: &Ticket,
    connection: &Connection,
) -> Result<(SchemaRef, Batches), Failure> {
    let messages = connection.get(&ticket.to_string(), &options()).await;
    let messages = messages.map_err(|error| failed(args, &error))?;
    let decoded = ipc::decode_stream(messages, ipc::Bounds::default()).await;
    decoded.map_err(|error| failed(args, &error))
}

/// Where to go on, as the gateway says where the columns of a topic change.
pub(super) fn next_place(error: &sheaf_flight::Error) -> Option<Start> {
    let (_, place) = error.message().rsplit_once("ask again with from=")?;
    place.parse().ok()
}

/// What the flags ask for.
pub(super) fn ticket(args: &ClientArgs, topic: &str) -> Result<Ticket, Failure> {
    let invalid = |error: &sheaf_kafka::Error| Failure::from_error(error);
    let mut ticket = Ticket::whole(topic);
    ticket.selection.follow = args.follow;
    ticket.selection.partition = args.partition;
    if let Some(from) = &args.from {
        ticket.selection.start = from.parse().map_err(|error| invalid(&error))?;
    }
    if !args.columns.is_empty() {
        ticket.columns = Some(args.columns.clone());
    }
    if let Some(text) = &args.condition {
        let filter: Filter = text.parse().map_err(|error| invalid(&error))?;
        ticket.filter = Some((text.clone(), filter));
    }
    ticket.limit = args.limit.or((!args.follow).then_some(LIMIT));
    Ok(ticket)
}
