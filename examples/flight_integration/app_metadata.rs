//! Metadata of the application comes back with an entry and with its endpoint.

use std::net::SocketAddr;

use arrow_schema::DataType;
use async_trait::async_trait;
use bytes::Bytes;
use sheaf_flight::{
    CallContext, EndpointEntry, Error, Fallback, FlightEntry, RawDescriptor, Server, invalid,
};

use crate::numbers;

struct AppMetadata;

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    crate::only(AppMetadata)
}

#[async_trait]
impl Fallback for AppMetadata {
    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        let RawDescriptor::Command(command) = asked.clone() else {
            return Err(invalid("the descriptor is a path; send a command"));
        };
        let app_metadata = command.clone();
        let endpoint = EndpointEntry { app_metadata, ..EndpointEntry::new(Bytes::new()) };
        Ok(FlightEntry {
            endpoints: vec![endpoint],
            app_metadata: command,
            ..FlightEntry::new(asked, &numbers::schema(DataType::UInt32))
        })
    }
}
