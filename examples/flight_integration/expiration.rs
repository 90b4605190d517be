//! Three endpoints: one that can be read once, and two that expire, can be
//! renewed and given up.

mod endpoints;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::UInt32Array;
use arrow_schema::DataType;
use async_trait::async_trait;
use bytes::Bytes;
use endpoints::{Endpoint, Endpoints};
use sheaf_flight::{
    CallContext, EndpointEntry, Error, Fallback, FlightEntry, FlightRouter, MessageStream,
    RawDescriptor, Server, invalid,
};
use sheaf_retry::{SharedClock, SystemClock, Timestamp};

use crate::numbers;

/// What tickets are called, and for how many seconds they are good.
const TICKETS: [(&str, Option<u64>); 3] =
    [("0: No expiration time", None), ("1: 5 seconds", Some(5)), ("2: 6 seconds", Some(6))];
/// For how long a renewed one is.
const RENEWED: Duration = Duration::from_secs(10);

struct Expiration {
    clock: SharedClock,
    endpoints: Endpoints,
}

pub(crate) fn server(_: SocketAddr) -> Result<Server, Error> {
    let scenario = Expiration { clock: SystemClock::shared(), endpoints: Endpoints::default() };
    let router = FlightRouter::builder()
        .fallback(Arc::new(scenario))
        // The testers' clients take no others for right.
        .standard_actions(["CancelFlightInfo", "RenewFlightEndpoint"])
        .build()?;
    Ok(Server::new(router))
}

fn endpoint(ticket: impl Into<Bytes>, expires: Option<Timestamp>) -> EndpointEntry {
    let expires_at_micros = expires.map(Timestamp::as_micros);
    EndpointEntry { expires_at_micros, ..EndpointEntry::new(ticket) }
}

#[async_trait]
impl Fallback for Expiration {
    async fn info(&self, _: &CallContext, asked: RawDescriptor) -> Result<FlightEntry, Error> {
        let now = self.clock.now();
        let expires = |(_, seconds): (_, Option<u64>)| {
            seconds.map(|seconds| now.plus(Duration::from_secs(seconds)))
        };
        self.endpoints.reset(TICKETS.into_iter().map(expires));
        let endpoints = TICKETS.map(|ticket| endpoint(ticket.0, expires(ticket))).into();
        let entry = FlightEntry::new(asked, &numbers::schema(DataType::UInt32));
        Ok(FlightEntry { endpoints, ..entry })
    }

    async fn get(&self, _: &CallContext, ticket: Bytes) -> Result<MessageStream, Error> {
        let (ticket, now) = (String::from_utf8_lossy(&ticket), self.clock.now());
        let read = |number, endpoint: &mut Endpoint| endpoint.read(now).map(|()| number);
        let number = self.endpoints.with(&ticket, read)?;
        let number = number.map_err(|why| invalid(format!("ticket {ticket:?}: {why}")))?;
        numbers::stream(Arc::new(UInt32Array::from(vec![number])))
    }

    async fn renew(&self, _: &CallContext, ticket: Bytes) -> Result<EndpointEntry, Error> {
        let ticket = String::from_utf8_lossy(&ticket);
        let expires = Some(self.clock.now().plus(RENEWED));
        self.endpoints.with(&ticket, |_, endpoint| endpoint.expires = expires)?;
        Ok(endpoint(format!("{ticket}: renewed (+ 10 seconds)"), expires))
    }

    async fn cancel(&self, _: &CallContext, ticket: Bytes) -> Result<bool, Error> {
        let ticket = String::from_utf8_lossy(&ticket);
        // What is not there cannot be given up.
        Ok(self.endpoints.with(&ticket, |_, endpoint| endpoint.cancel()).unwrap_or(false))
    }
}
