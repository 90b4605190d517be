//! Keeps streams of any data, acknowledges each message that carries metadata,
//! and gives the streams back as they came.

mod streams;

use std::net::SocketAddr;

use arrow_schema::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::ipc::{Kind, decode_schema, inspect};
use sheaf_flight::{
    CallContext, EndpointEntry, Error, Fallback, FlightEntry, MessageStream, PutResults,
    RawDescriptor, Server, invalid,
};
use streams::Streams;

struct Data {
    address: SocketAddr,
    streams: Streams,
}

pub(crate) fn server(address: SocketAddr) -> Result<Server, Error> {
    crate::only(Data { address, streams: Streams::default() })
}

/// A stream is named by a path of one element.
fn name(asked: &RawDescriptor) -> Result<Bytes, Error> {
    match asked {
        RawDescriptor::Path(path) if path.len() == 1 => Ok(path[0].clone().into()),
        other => Err(invalid(format!("{other:?} is no path of one element"))),
    }
}

#[async_trait]
impl Fallback for Data {
    async fn put(
        &self,
        _: &CallContext,
        asked: RawDescriptor,
        messages: MessageStream,
    ) -> Result<PutResults, Error> {
        let name = name(&asked)?;
        let start = (messages, self.streams.receive());
        let results = stream::try_unfold(start, move |(mut messages, mut incoming)| {
            let name = name.clone();
            async move {
                while let Some(message) = messages.try_next().await? {
                    let app_metadata = message.app_metadata.clone();
                    incoming.push(message)?;
                    if !app_metadata.is_empty() {
                        return Ok(Some((app_metadata, (messages, incoming))));
                    }
                }
                incoming.keep(name);
                Ok(None)
            }
        });
        Ok(results.boxed())
    }

    async fn get(&self, _: &CallContext, ticket: Bytes) -> Result<MessageStream, Error> {
        Ok(stream::iter(self.streams.find(&ticket)?.into_iter().map(Ok)).boxed())
    }

    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        let name = name(&asked)?;
        let (mut schema, mut rows) = (Schema::empty(), 0);
        for message in self.streams.find(&name)? {
            let outline = inspect(&message.header)?;
            match outline.kind {
                Kind::Schema => schema = decode_schema(&message.header)?,
                Kind::RecordBatch => rows += outline.rows,
                Kind::Dictionary { .. } | Kind::Metadata => {}
            }
        }
        // The testers' clients want a place to go to.
        let locations = vec![format!("grpc+tcp://{}", self.address)];
        Ok(FlightEntry {
            total_records: i64::try_from(rows).unwrap_or(i64::MAX),
            endpoints: vec![EndpointEntry { locations, ..EndpointEntry::new(name) }],
            ..FlightEntry::new(asked, &schema)
        })
    }
}
