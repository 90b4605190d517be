//! A query that is done when it is asked about for the second time.

use std::net::SocketAddr;
use std::time::Duration;

use arrow_schema::DataType;
use async_trait::async_trait;
use sheaf_flight::{
    CallContext, EndpointEntry, Error, Fallback, FlightEntry, Progress, RawDescriptor, Server,
};
use sheaf_retry::{SharedClock, SystemClock};

use crate::numbers;

/// For how long the second question may be asked.
const PATIENCE: Duration = Duration::from_secs(10);

struct Query(SharedClock);

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    crate::only(Query(SystemClock::shared()))
}

#[async_trait]
impl Fallback for Query {
    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        let endpoints = vec![EndpointEntry::new("long-running query")];
        let entry = FlightEntry::new(asked, &numbers::schema(DataType::UInt32));
        Ok(FlightEntry { endpoints, ..entry })
    }

    async fn poll(&self, context: &CallContext, asked: RawDescriptor) -> Result<Progress, Error> {
        let next = RawDescriptor::Command("poll".into());
        let is_done = asked == next;
        let entry = self.info(context, asked).await?;
        if is_done {
            return Ok(entry.into());
        }
        let expires_at_micros = Some(self.0.now().plus(PATIENCE).as_micros());
        Ok(Progress { entry, next: Some(next), fraction: Some(0.1), expires_at_micros })
    }
}
