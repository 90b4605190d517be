//! Three endpoints to be read in order.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow_array::Int32Array;
use arrow_schema::DataType;
use async_trait::async_trait;
use bytes::Bytes;
use sheaf_flight::{
    CallContext, EndpointEntry, Error, Fallback, FlightEntry, MessageStream, RawDescriptor, Server,
    invalid,
};

use crate::numbers;

struct Ordered;

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    crate::only(Ordered)
}

#[async_trait]
impl Fallback for Ordered {
    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        Ok(FlightEntry {
            ordered: asked == RawDescriptor::Command("ordered".into()),
            endpoints: ["1", "2", "3"].map(EndpointEntry::new).into(),
            ..FlightEntry::new(asked, &numbers::schema(DataType::Int32))
        })
    }

    async fn get(&self, _: &CallContext, ticket: Bytes) -> Result<MessageStream, Error> {
        let factor = match ticket.as_ref() {
            b"1" => 1,
            b"2" => 10,
            b"3" => 100,
            other => return Err(invalid(format!("ticket {other:?} is none of 1, 2 and 3"))),
        };
        numbers::stream(Arc::new(Int32Array::from_iter_values((1..=3).map(|n| n * factor))))
    }
}
