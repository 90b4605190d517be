//! A control plane elsewhere, over gRPC.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use sheaf_flight::{Channel, ChannelPool, Error, Target};
use sheaf_proto::control::v1 as proto;
use sheaf_proto::control::v1::component_registry_client::ComponentRegistryClient;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use tonic::{Request, Response, Status as Refused};

use super::call::{Caller, ClientOptions};
use super::member::Member;
use super::service::MAX_MESSAGE;
use super::watch;
use crate::registry::{
    Beat, Component, Counted, Event, Filter, Pipeline, Registered, Registration, Status, Totals,
    wire,
};

/// Calls the control plane at one address. Cheap to clone.
///
/// Every call may be sent again, and is after transient errors; each attempt has
/// a deadline. Errors keep code and text, and name call and address. Cancel-safe.
#[derive(Clone)]
pub struct ControlClient {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pool: ChannelPool,
    target: Target,
    pub(super) caller: Caller,
}

/// What a component is told when it has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Fence, connections, and whether it is new.
    pub registered: Registered,
    /// How often to beat.
    pub beat_every: Duration,
    /// How long a component may be silent.
    pub unhealthy_after: Duration,
    /// Which run of the control plane it is.
    pub run: u64,
}

/// What became of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// Whether it counted.
    pub counted: bool,
    /// What the component is taken for.
    pub status: Status,
    /// Which run of the control plane it is.
    pub run: u64,
}

impl ControlClient {
    /// A client of the control plane at `target`; nothing is connected yet. Calls
    /// have to be made on a tokio runtime.
    pub fn new(
        pool: ChannelPool,
        target: Target,
        options: ClientOptions,
        clock: SharedClock,
    ) -> Self {
        let caller = Caller::new(target.to_string(), options, clock);
        ControlClient { inner: Arc::new(Inner { pool, target, caller }) }
    }

    /// Whom it calls.
    pub fn target(&self) -> &Target {
        &self.inner.target
    }

    /// Registers once; [`ControlClient::join`] also beats.
    ///
    /// # Errors
    /// Those of [`Registry::register`](crate::registry::Registry::register) by
    /// their codes, and those of the connection.
    pub async fn register(&self, asked: &Registration) -> Result<Joined, Error> {
        let message = wire::register_request(asked);
        let answer = self.call("RegisterComponent", &message, async |mut client, request| {
            client.register_component(request).await
        });
        let answer = answer.await?;
        Ok(Joined {
            registered: Registered {
                fence: answer.fence,
                created: answer.created,
                connections: answer.connections.unwrap_or_default(),
            },
            beat_every: Duration::from_millis(answer.heartbeat_ms.max(1)),
            unhealthy_after: Duration::from_millis(answer.unhealthy_after_ms),
            run: answer.run,
        })
    }

    /// Registers and beats from then on, until the member leaves or is dropped.
    ///
    /// A control plane that is not there, and a place whose holder still counts as
    /// living, are waited for as long as [`ClientOptions::patience`] says.
    ///
    /// # Errors
    /// As [`ControlClient::register`].
    pub async fn join(&self, asked: Registration) -> Result<Member, Error> {
        Member::join(self.clone(), asked).await
    }

    /// One beat; [`Member`] does it by itself.
    ///
    /// # Errors
    /// `not_found`: register again; `stale_fence`: another one has its place.
    pub async fn beat(&self, beat: &Beat) -> Result<Beaten, Error> {
        let message = proto::HeartbeatRequest {
            id: beat.id.clone(),
            incarnation: beat.incarnation.expose().to_owned(),
            sequence: beat.sequence,
            progress: beat.progress,
            load: beat.load,
        };
        let answer = self.call("Heartbeat", &message, async |mut client, request| {
            client.heartbeat(request).await
        });
        let answer = answer.await?;
        let status = Status::from_wire(answer.status).map_err(|error| malformed(&error))?;
        Ok(Beaten { counted: answer.counted, status, run: answer.run })
    }

    /// Leaves in good order, and says what went through it.
    ///
    /// # Errors
    /// As [`ControlClient::beat`].
    pub async fn deregister(
        &self,
        id: &str,
        incarnation: &sheaf_flight::Secret,
        reason: &str,
        totals: Option<Totals>,
    ) -> Result<(), Error> {
        let (id, incarnation) = (id.to_owned(), incarnation.expose().to_owned());
        let reason = reason.to_owned();
        let message = proto::DeregisterRequest { id, incarnation, reason, totals };
        let answer = self.call("Deregister", &message, async |mut client, request| {
            client.deregister(request).await
        });
        answer.await.map(|_| ())
    }

    /// All components that the filter selects, in the order of their ids.
    ///
    /// # Errors
    /// Those of the connection; `invalid_argument` for an odd filter.
    pub async fn components(&self, filter: &Filter) -> Result<Vec<Component>, Error> {
        let mut all: Vec<Component> = Vec::new();
        loop {
            let after = all.last().map(|last| last.id.clone()).unwrap_or_default();
            let filter = Some(wire::filter_message(filter));
            let message = proto::GetComponentsRequest { filter, limit: 0, after };
            let answer = self.call("GetComponents", &message, async |mut client, request| {
                client.get_components(request).await
            });
            let answer = answer.await?;
            let is_last = !answer.more || answer.components.is_empty();
            for component in answer.components {
                all.push(wire::component_from(component).map_err(|error| malformed(&error))?);
            }
            if is_last {
                return Ok(all);
            }
        }
    }

    /// One component.
    ///
    /// # Errors
    /// `not_found`, and those of the connection.
    pub async fn component(&self, id: &str) -> Result<Component, Error> {
        let message = proto::GetComponentStatusRequest { id: id.to_owned() };
        let answer = self.call("GetComponentStatus", &message, async |mut client, request| {
            client.get_component_status(request).await
        });
        let found = answer.await?.component;
        let found = found.ok_or_else(|| Error::new(Code::Internal, "the answer is empty"))?;
        wire::component_from(found).map_err(|error| malformed(&error))
    }

    /// All pipelines, or those named. Tokens are not among what is shown.
    ///
    /// # Errors
    /// `not_found` where one that is named is not there; those of the connection.
    pub async fn pipelines(&self, ids: &[&str], with_spec: bool) -> Result<Vec<Pipeline>, Error> {
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let message = proto::GetPipelinesRequest { ids, with_spec };
        let answer = self.call("GetPipelines", &message, async |mut client, request| {
            client.get_pipelines(request).await
        });
        let all = answer.await?.pipelines.into_iter().map(wire::shown_pipeline);
        all.collect::<Result<_, _>>().map_err(|error| malformed(&error))
    }

    /// What there is, each component as a change without anything before, then
    /// [`Event::Current`], then every change.
    ///
    /// When the connection breaks, or the control plane is started again, it is
    /// watched again: [`Event::Missed`] stands for what happened in between,
    /// and what there is follows once more. The stream ends when the control plane cannot
    /// be reached with all retries, or refuses.
    ///
    /// # Errors
    /// As any call; later ones end the stream.
    pub async fn watch(&self, filter: &Filter) -> Result<BoxStream<'static, Event>, Error> {
        watch::open(&self.inner, filter).await
    }

    async fn call<M, T>(
        &self,
        name: &'static str,
        message: &M,
        call: impl AsyncFn(ComponentRegistryClient<Channel>, Request<M>) -> Result<Response<T>, Refused>,
    ) -> Result<T, Error>
    where
        M: Clone,
    {
        let deadline = self.inner.caller.deadline();
        let attempt = || async {
            let mut request = Request::new(message.clone());
            request.set_timeout(deadline);
            Ok(call(self.inner.client()?, request).await?.into_inner())
        };
        self.inner.caller.call(name, attempt).await
    }
}

impl Inner {
    pub(super) fn client(&self) -> Result<ComponentRegistryClient<Channel>, Error> {
        let channel = self.pool.channel(&self.target)?;
        Ok(ComponentRegistryClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }
}

impl fmt::Debug for ControlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlClient").field("target", &self.inner.target).finish_non_exhaustive()
    }
}

impl From<Counted> for bool {
    fn from(counted: Counted) -> bool {
        counted == Counted::Yes
    }
}

/// What came back is not of the form that it should be: another version.
pub(super) fn malformed(error: &crate::registry::Error) -> Error {
    let code = match error.code() {
        Code::InvalidArgument => Code::Internal,
        code => code,
    };
    Error::new(code, format!("the answer cannot be read: {error}"))
}
