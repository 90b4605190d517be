//! A header of every call comes back with its answer, good or bad.

use std::net::SocketAddr;
use std::sync::Arc;

use arrow_schema::Schema;
use async_trait::async_trait;
use sheaf_flight::{
    AnswerHeaders, CallContext, EndpointEntry, Error, Fallback, FlightEntry, Middleware,
    RawDescriptor, Server, invalid,
};

const HEADER: &str = "x-middleware";

struct EchoHeader;

impl Middleware for EchoHeader {
    fn begin(
        &self,
        _: &str,
        context: &CallContext,
        answer: &mut AnswerHeaders,
    ) -> Result<(), Error> {
        answer.add(HEADER, context.header(HEADER).unwrap_or_default())
    }
}

struct Success;

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    Ok(crate::only(Success)?.middleware(Arc::new(EchoHeader)))
}

#[async_trait]
impl Fallback for Success {
    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        if asked != RawDescriptor::Command("success".into()) {
            return Err(invalid("every command but \"success\" fails, as it should"));
        }
        // Nobody goes there.
        let locations = vec!["grpc+tcp://localhost:10010".to_owned()];
        let endpoint = EndpointEntry { locations, ..EndpointEntry::new("foo") };
        let entry = FlightEntry::new(asked, &Schema::empty());
        Ok(FlightEntry { endpoints: vec![endpoint], ..entry })
    }
}
