//! An endpoint that says to stay on the same connection.

use std::net::SocketAddr;

use arrow_schema::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sheaf_flight::{
    CallContext, EndpointEntry, Error, Fallback, FlightEntry, MessageStream, RawDescriptor,
    SAME_CONNECTION, Server, ipc,
};

struct Reuse;

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    crate::only(Reuse)
}

#[async_trait]
impl Fallback for Reuse {
    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        let locations = vec![SAME_CONNECTION.to_owned()];
        let endpoint = EndpointEntry { locations, ..EndpointEntry::new("reuse") };
        let entry = FlightEntry::new(asked, &Schema::empty());
        Ok(FlightEntry { endpoints: vec![endpoint], ..entry })
    }

    async fn get(&self, _: &CallContext, _: Bytes) -> Result<MessageStream, Error> {
        Ok(stream::iter([Ok(ipc::encode_schema(&Schema::empty()))]).boxed())
    }
}
