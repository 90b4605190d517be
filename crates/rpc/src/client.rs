//! A coordinator on another machine, over gRPC.

mod claims;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_coordinator::{
    Answer, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error, Event,
    Extended, Extension, Query, Registered, SettleReply, SettleRequest, WatchFilter, wire,
};
use sheaf_flight::{Channel, ChannelPool, Target};
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::coordinator::v1::coordinator_client::CoordinatorClient;
use sheaf_retry::SharedClock;
use tonic::{Request, Response, Status};

use crate::call::{Caller, RpcOptions, malformed};
use crate::service::MAX_MESSAGE;

pub use claims::ClaimStream;

/// A [`Coordinator`] behind a network: to its caller it is like any other.
///
/// Calls are sent again after transient errors, for the contract makes every
/// one of them idempotent; each attempt has a deadline, to which the wait of a
/// claim is added. Connections come from the pool and are made when they are
/// needed: a server that was restarted is found again by the next attempt.
///
/// Errors are the coordinator's own, with code and text as it gave them. Where
/// the connection failed, it is [`Error::Backend`] with the code
/// [`Unavailable`](sheaf_retry::Code::Unavailable) or
/// [`DeadlineExceeded`](sheaf_retry::Code::DeadlineExceeded).
///
/// Cancel-safe: a dropped call is ended on the server as well.
#[derive(Clone)]
pub struct RpcCoordinator {
    inner: Arc<Inner>,
}

struct Inner {
    pool: ChannelPool,
    /// One at least; all are the same coordinator.
    targets: Vec<Target>,
    caller: Caller,
}

impl RpcCoordinator {
    /// A client of the coordinator at `target`.
    ///
    /// Nothing is connected yet: a server that is not there shows with the
    /// first call. Calls have to be made on a tokio runtime.
    pub fn new(pool: ChannelPool, target: Target, options: RpcOptions, clock: SharedClock) -> Self {
        Self::of_one(pool, vec![target], options, clock)
    }

    /// A client of one coordinator that several servers replicate: any of them
    /// answers for it. One is called until it does not answer, then the next, so
    /// that the retries of `options` should be as many as the servers.
    ///
    /// # Errors
    /// `invalid_argument` for no target at all.
    pub fn replicated(
        pool: ChannelPool,
        targets: Vec<Target>,
        options: RpcOptions,
        clock: SharedClock,
    ) -> Result<Self, sheaf_flight::Error> {
        match targets.is_empty() {
            true => Err(sheaf_flight::invalid("a coordinator without an address")),
            false => Ok(Self::of_one(pool, targets, options, clock)),
        }
    }

    fn of_one(
        pool: ChannelPool,
        targets: Vec<Target>,
        options: RpcOptions,
        clock: SharedClock,
    ) -> Self {
        let addresses = targets.iter().map(Target::to_string).collect();
        let caller = Caller::new(addresses, options, clock);
        RpcCoordinator { inner: Arc::new(Inner { pool, targets, caller }) }
    }

    /// Whom it calls at the moment.
    pub fn target(&self) -> &Target {
        self.inner.target()
    }

    /// Opens a stream of claims: the server sends work as credits are granted,
    /// without a round trip for each claim.
    ///
    /// One credit is one batch. `request.max` bounds each answer; its `wait`
    /// is how long the server waits at a time, without end in all. A broken
    /// stream is opened again with the same `request_id`, and then begins with
    /// the leases of the old one that still stand.
    ///
    /// # Errors
    /// As any call; later ones come from the stream.
    pub async fn claim_stream(
        &self,
        request: ClaimRequest,
        credits: u32,
    ) -> Result<ClaimStream, Error> {
        claims::open(&self.inner, request, credits).await
    }
}

impl fmt::Debug for RpcCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcCoordinator")
            .field("targets", &self.inner.targets)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn target(&self) -> &Target {
        &self.targets[self.caller.place()]
    }

    fn client(&self) -> Result<CoordinatorClient<Channel>, sheaf_flight::Error> {
        let channel = self.pool.channel(self.target())?;
        Ok(CoordinatorClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }
}

fn timed<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn failed(status: Status) -> sheaf_flight::Error {
    sheaf_flight::Error::from(status)
}

/// The answer in terms of the model.
fn read<P, M: TryFrom<P, Error = Error>>(
    answer: Result<Response<P>, Status>,
) -> Result<M, sheaf_flight::Error> {
    let message = answer.map_err(failed)?.into_inner();
    M::try_from(message).map_err(|error| malformed(&error))
}

#[async_trait]
impl Coordinator for RpcCoordinator {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        let message = wire::register_request(&specs);
        let call = |deadline| {
            let message = message.clone();
            async move {
                let mut client = self.inner.client()?;
                let answer = client.register(timed(message, deadline)).await.map_err(failed)?;
                wire::registered(answer.into_inner()).map_err(|error| malformed(&error))
            }
        };
        self.inner.caller.call("register", Duration::ZERO, call).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        let message = proto::ClaimRequest::from(&request);
        let call = |deadline| {
            let message = message.clone();
            async move {
                let mut client = self.inner.client()?;
                read(client.claim(timed(message, deadline)).await)
            }
        };
        self.inner.caller.call("claim", request.wait, call).await
    }

    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        let message = proto::SettleRequest::from(&request);
        let wait = request.claim.map_or(Duration::ZERO, |claim| claim.wait);
        let call = |deadline| {
            let message = message.clone();
            async move {
                let mut client = self.inner.client()?;
                read(client.settle(timed(message, deadline)).await)
            }
        };
        self.inner.caller.call("settle", wait, call).await
    }

    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        let message = wire::extend_request(&leases);
        let call = |deadline| {
            let message = message.clone();
            async move {
                let mut client = self.inner.client()?;
                let answer = client.extend(timed(message, deadline)).await.map_err(failed)?;
                wire::extended(answer.into_inner()).map_err(|error| malformed(&error))
            }
        };
        self.inner.caller.call("extend", Duration::ZERO, call).await
    }

    async fn query(&self, query: Query) -> Result<Answer, Error> {
        let message = proto::QueryRequest::from(&query);
        let call = |deadline| {
            let message = message.clone();
            async move {
                let mut client = self.inner.client()?;
                read(client.query(timed(message, deadline)).await)
            }
        };
        self.inner.caller.call("query", Duration::ZERO, call).await
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        let message = proto::ControlRequest::from(&control);
        let call = |deadline| {
            let message = message.clone();
            async move {
                let mut client = self.inner.client()?;
                read(client.control(timed(message, deadline)).await)
            }
        };
        self.inner.caller.call("control", Duration::ZERO, call).await
    }

    /// Events from the moment of the answer on.
    ///
    /// When the connection breaks, or the server is restarted, it is watched
    /// again, and [`Event::Missed`] with 1 stands for what happened in
    /// between, which nobody counted. The stream ends when the server cannot
    /// be reached with all the retries of the client's policy, or refuses.
    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        watch::open(&self.inner, filter).await
    }
}
