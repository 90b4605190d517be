//! The coordinator as a gRPC service.

mod claim_stream;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_coordinator::{
    ClaimRequest, Control, Coordinator, Error, Query, SettleRequest, WatchFilter, wire,
};
use sheaf_flight::{FORWARDED, Right};
use sheaf_proto::BatchId;
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::coordinator::v1::coordinator_server::{Coordinator as Service, CoordinatorServer};
use sheaf_retry::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use crate::PayloadDirectory;
use crate::actions::NAMESPACE;
use crate::json::SpecInput;
use crate::payloads::Payloads;
use crate::waits::{Waits, closing};

/// Largest message either way: a page of 10,000 batches with long
/// specifications, or as many registrations, and room to spare.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// Most `Watch` and `ClaimStream` calls at a time, each.
const MAX_STREAMS: usize = 4_096;

/// Serves a [`Coordinator`] over gRPC: the same contract, call for call.
///
/// Everything is checked before it reaches the coordinator; errors travel
/// with their code, as `sheaf_flight` maps them.
///
/// # A caller that goes away
/// A call is dropped with the connection that it came by, or with the deadline
/// that came with it. A `Claim` that waits then takes nothing. What was claimed
/// in the very moment in which the caller went away is under lease and stays
/// so: it is not released here, because the caller may be about to send the
/// same `request_id` over a new connection and has a right to the same leases,
/// which a release with the same fencing token would take from under it.
/// The same request is answered with them; where nobody asks again, they
/// return when the lease ends, without a charge unless the claim said `start`.
///
/// # Waits
/// A `Claim` waits at most 60 s, as the contract has it. `ClaimStream` repeats
/// the waits of its caller, or of 30 s, for as long as the stream stands.
#[derive(Clone)]
pub struct CoordinatorService {
    coordinator: Arc<dyn Coordinator>,
    directory: Option<Arc<dyn PayloadDirectory>>,
    is_bare: bool,
    passes_on_to: Option<Arc<str>>,
    last_hop: Option<Arc<dyn Coordinator>>,
    watches: Arc<Semaphore>,
    claims: Arc<Semaphore>,
    waits: Waits,
}

impl CoordinatorService {
    /// The namespace in which a token needs rights for its calls.
    pub const NAMESPACE: &'static str = NAMESPACE;
    /// The right that each method needs there which changes nothing; all
    /// others need the right to change.
    pub const NEEDS: &'static [(&'static str, Right)] =
        &[("Query", Right::Read), ("Watch", Right::Read)];

    /// Serves `coordinator`.
    pub fn new(coordinator: Arc<dyn Coordinator>) -> Self {
        CoordinatorService {
            coordinator,
            directory: None,
            is_bare: false,
            passes_on_to: None,
            last_hop: None,
            watches: Arc::new(Semaphore::new(MAX_STREAMS)),
            claims: Arc::new(Semaphore::new(MAX_STREAMS)),
            waits: Waits::new(),
        }
    }

    /// Fills in what `directory` knows of the payloads that are registered, and
    /// refuses a batch whose payload is neither there nor said to be elsewhere,
    /// as the actions do. Payloads of outputs and of batches that start anew
    /// count as used, so that they do not expire in between; an output is taken
    /// as its worker described it.
    #[must_use]
    pub fn with_directory(mut self, directory: Arc<dyn PayloadDirectory>) -> Self {
        self.directory = Some(directory);
        self
    }

    /// There is no store beside this coordinator: a batch that names no location
    /// of its payload is refused.
    #[must_use]
    pub fn without_store(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// This server passes every call on to the coordinator at `address`: what
    /// another such server passes on to it is refused, for two that name each
    /// other would go on for ever.
    #[must_use]
    pub fn passing_on_to(mut self, address: impl Into<Arc<str>>) -> Self {
        self.passes_on_to = Some(address.into());
        self
    }

    /// What another server passed on goes to `coordinator`, which passes nothing on:
    /// where any of several servers takes calls and passes them on to the one that
    /// leads, two that take each other for it would go on for ever.
    #[must_use]
    pub fn with_last_hop(mut self, coordinator: Arc<dyn Coordinator>) -> Self {
        self.last_hop = Some(coordinator);
        self
    }

    /// The service for one call: it depends on whether it was passed on before.
    ///
    /// # Errors
    /// Where it would be passed on again.
    fn for_call<T>(&self, request: &Request<T>) -> Result<Cow<'_, Self>, Status> {
        self.is_last_hop(request)?;
        Ok(match &self.last_hop {
            Some(last) if request.metadata().get(FORWARDED).is_some() => {
                Cow::Owned(CoordinatorService { coordinator: Arc::clone(last), ..self.clone() })
            }
            _ => Cow::Borrowed(self),
        })
    }

    /// Refuses what was passed on before, where it would be passed on again.
    fn is_last_hop<T>(&self, request: &Request<T>) -> Result<(), Status> {
        match &self.passes_on_to {
            Some(address) if request.metadata().get(FORWARDED).is_some() => {
                Err(Status::from(sheaf_flight::Error::new(
                    Code::FailedPrecondition,
                    format!(
                        "this server is no coordinator, it passes calls on to {address}: name the coordinator itself, --coordinator {address}"
                    ),
                )))
            }
            _ => Ok(()),
        }
    }

    fn payloads(&self) -> Payloads<'_> {
        Payloads {
            coordinator: self.coordinator.as_ref(),
            directory: self.directory.as_deref(),
            is_bare: self.is_bare,
        }
    }

    /// Ends its waits and streams with `waits`.
    #[must_use]
    pub fn with_waits(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// The service for a `tonic` router, with messages up to 64 MiB.
    pub fn into_server(self) -> CoordinatorServer<CoordinatorService> {
        CoordinatorServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

impl fmt::Debug for CoordinatorService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoordinatorService")
            .field("watches", &(MAX_STREAMS - self.watches.available_permits()))
            .field("claim_streams", &(MAX_STREAMS - self.claims.available_permits()))
            .finish_non_exhaustive()
    }
}

fn status(error: Error) -> Status {
    Status::from(sheaf_flight::Error::from_error(error))
}

fn permit(streams: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(streams).try_acquire_owned().map_err(|_| {
        status(Error::Unavailable {
            problem: format!("serves {MAX_STREAMS} {what} calls, which is its limit; end one"),
            code: Code::Overloaded,
        })
    })
}

#[async_trait]
impl Service for CoordinatorService {
    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let this = self.for_call(&request)?;
        let specs = wire::specs(request.into_inner()).map_err(status)?;
        let inputs = specs.into_iter().map(SpecInput::from).collect();
        let name = |index| format!("batches[{index}]");
        let payloads = this.payloads();
        let specs = payloads.resolve("Register", inputs, name).await?;
        let registered = payloads.register(specs).await?;
        Ok(Response::new(wire::register_response(&registered)))
    }

    async fn claim(
        &self,
        request: Request<proto::ClaimRequest>,
    ) -> Result<Response<proto::ClaimResponse>, Status> {
        let this = self.for_call(&request)?;
        let request = ClaimRequest::try_from(request.into_inner()).map_err(status)?;
        let (wait, claim) = (request.wait, this.coordinator.claim(request));
        let claim = this.waits.bound(wait, claim).await.map_err(status)?;
        Ok(Response::new((&claim).into()))
    }

    type ClaimStreamStream = BoxStream<'static, Result<proto::ClaimResponse, Status>>;

    async fn claim_stream(
        &self,
        request: Request<Streaming<proto::ClaimCredit>>,
    ) -> Result<Response<Self::ClaimStreamStream>, Status> {
        let this = self.for_call(&request)?;
        let permit = permit(&this.claims, "ClaimStream")?;
        let (coordinator, waits) = (Arc::clone(&this.coordinator), this.waits.clone());
        let stream = claim_stream::open(coordinator, request.into_inner(), waits, permit);
        Ok(Response::new(stream))
    }

    async fn settle(
        &self,
        request: Request<proto::SettleRequest>,
    ) -> Result<Response<proto::SettleResponse>, Status> {
        let this = self.for_call(&request)?;
        let request = SettleRequest::try_from(request.into_inner()).map_err(status)?;
        let outputs = request.outcomes.iter().flat_map(|outcome| &outcome.outputs);
        let outputs: Vec<BatchId> = outputs.map(|output| output.id.clone()).collect();
        this.payloads().renew(&outputs).await;
        let wait = request.claim.as_ref().map_or(Duration::ZERO, |claim| claim.wait);
        let payloads = this.payloads();
        let reply = this.waits.bound(wait, payloads.settle(request)).await.map_err(status)?;
        Ok(Response::new((&reply).into()))
    }

    async fn extend(
        &self,
        request: Request<proto::ExtendRequest>,
    ) -> Result<Response<proto::ExtendResponse>, Status> {
        let this = self.for_call(&request)?;
        let leases = wire::extensions(request.into_inner()).map_err(status)?;
        let extended = this.coordinator.extend(leases).await.map_err(status)?;
        Ok(Response::new(wire::extend_response(&extended)))
    }

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<proto::QueryResponse>, Status> {
        let this = self.for_call(&request)?;
        let query = Query::try_from(request.into_inner()).map_err(status)?;
        let answer = this.coordinator.query(query).await.map_err(status)?;
        Ok(Response::new((&answer).into()))
    }

    async fn control(
        &self,
        request: Request<proto::ControlRequest>,
    ) -> Result<Response<proto::ControlResponse>, Status> {
        let this = self.for_call(&request)?;
        let control = Control::try_from(request.into_inner()).map_err(status)?;
        this.payloads().before(&control).await?;
        let reply = this.coordinator.control(control).await.map_err(status)?;
        Ok(Response::new((&reply).into()))
    }

    type WatchStream = BoxStream<'static, Result<proto::WatchEvent, Status>>;

    /// Events are taken from the coordinator only as fast as the reader takes
    /// them from the connection. What it is too slow for piles up nowhere: the
    /// coordinator drops it and says how much (`missed`).
    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let this = self.for_call(&request)?;
        let permit = permit(&this.watches, "Watch")?;
        let filter = WatchFilter::try_from(request.into_inner()).map_err(status)?;
        let events = this.coordinator.watch(filter).await.map_err(status)?;
        let waits = this.waits.clone();
        let events = events.take_until(async move { waits.ended().await });
        // The end of the events is an error to whoever asked for them without end.
        let closed = stream::once(async { Err(status(closing())) });
        let events = events.map(move |event| {
            let _held = &permit;
            let message: proto::WatchEvent = (&event).into();
            Ok(message)
        });
        Ok(Response::new(events.chain(closed).boxed()))
    }
}
