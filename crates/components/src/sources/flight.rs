//! Reads a stream of a Flight server.

mod place;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_flight::ipc::{Bounds, decode_stream};
use sheaf_flight::{CallOptions, Error, FlightConnection};
use sheaf_pipeline::spec::FlightSource;
use sheaf_retry::Code;

use crate::failure::failed;
use crate::host::Host;
use crate::offset;
use place::Place;

const KIND: &str = "flight";
/// Tickets of topics begin so: what they give differs from time to time.
const TOPICS: &str = "topics/";

/// The rows of a ticket.
///
/// A ticket of a topic is read by the offsets that its rows have; of any other ticket the
/// rows are counted, since it gives the same ones in the same order each time.
pub(super) struct Stream {
    connection: FlightConnection,
    ticket: String,
    place: Place,
    open: Option<Open>,
    is_over: bool,
}

struct Open {
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
    /// Rows that came of this call.
    seen: u64,
}

/// Where to go on.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offset {
    ticket: String,
    place: Place,
}

impl Stream {
    pub(super) async fn open(
        config: &FlightSource,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let ticket = config.ticket.clone();
        let place = match offset::read::<Offset>(KIND, start.offset.as_ref())? {
            Some(offset) if offset.ticket == ticket => offset.place,
            Some(offset) => {
                let text = format!(
                    "the offset that is kept of this source is of the ticket {}, not of {ticket}; \
                     put the ticket back, or remove the state of the component",
                    offset.ticket
                );
                return Err(ComponentError::new(Code::FailedPrecondition, text));
            }
            None if ticket.starts_with(TOPICS) => Place::Partitions(Vec::new()),
            None => Place::Rows(0),
        };
        let connection = crate::flight::connect(&config.server, host).await?;
        Ok(Stream { connection, ticket, place, open: None, is_over: false })
    }

    async fn call(&mut self) -> Result<Open, ComponentError> {
        let text = format!("{} of {} cannot be read", self.ticket, self.connection.target());
        let messages = self.connection.get(&self.ticket, &CallOptions::default()).await;
        let messages = messages.map_err(failed(text.clone()))?;
        let decoded = decode_stream(messages, Bounds::default()).await.map_err(failed(text))?;
        Ok(Open { batches: decoded.1, seen: 0 })
    }
}

#[async_trait]
impl Source for Stream {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        while !self.is_over {
            let Some(open) = &mut self.open else {
                self.open = Some(self.call().await?);
                continue;
            };
            match open.batches.next().await {
                None => {
                    self.place.ended(&self.ticket, open.seen)?;
                    self.is_over = true;
                }
                Some(Err(error)) => {
                    // Called again behind the rows that were given, if it is tried again.
                    self.open = None;
                    return Err(failed(format!("{} broke off", self.ticket))(error));
                }
                Some(Ok(batch)) => {
                    let first = open.seen;
                    open.seen += batch.num_rows() as u64;
                    let Some((batch, place)) = self.place.beyond(&self.ticket, &batch, first)?
                    else {
                        continue;
                    };
                    let at = Offset { ticket: self.ticket.clone(), place };
                    let offset = offset::write(KIND, &at)?;
                    self.place = at.place;
                    return Ok(Some(Made { batch, offset }));
                }
            }
        }
        Ok(None)
    }
}
