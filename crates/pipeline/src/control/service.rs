//! The control plane as a gRPC service.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use sheaf_flight::{Right, Secret};
use sheaf_proto::control::v1 as proto;
use sheaf_proto::control::v1::component_registry_server::{
    ComponentRegistry as Service, ComponentRegistryServer,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::plane::{ControlPlane, closed};
use crate::registry::{Change, Component, Error, Event, certificate_name, limits, wire};

/// Largest answer: everything that a registry holds by default, and room to spare.
pub(super) const MAX_MESSAGE: usize = 96 << 20;
/// Largest request: a component with many long schemas.
const MAX_REQUEST: usize = 8 << 20;
/// Components of one answer.
const PAGE: usize = 1_000;

/// Serves a [`ControlPlane`] over gRPC.
///
/// Everything is checked before it reaches the registry. Tokens and incarnations
/// go in and never come out.
#[derive(Clone, Debug)]
pub struct ControlService {
    plane: ControlPlane,
}

impl ControlService {
    /// The namespace in which a token needs rights for its calls.
    pub const NAMESPACE: &'static str = "control";
    /// The right that each method needs there: components and workers write,
    /// tools read.
    pub const NEEDS: &'static [(&'static str, Right)] = &[
        ("RegisterComponent", Right::Write),
        ("Heartbeat", Right::Write),
        ("Deregister", Right::Write),
        ("GetComponents", Right::Read),
        ("GetComponentStatus", Right::Read),
        ("WatchComponents", Right::Read),
        ("GetPipelines", Right::Read),
    ];

    /// Serves `plane`.
    pub fn new(plane: ControlPlane) -> Self {
        ControlService { plane }
    }

    /// The service for a `tonic` router, with requests up to 8 MiB.
    pub fn into_server(self) -> ComponentRegistryServer<ControlService> {
        ComponentRegistryServer::new(self)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    /// Counts what did not even reach the registry.
    fn refuse<T>(&self, read: Result<T, Error>) -> Result<T, Error> {
        read.inspect_err(|error| self.plane.metrics().refused(error))
    }

    fn read<T>(&self, read: Result<T, Error>) -> Result<T, Status> {
        self.refuse(read).map_err(status)
    }

    pub(super) async fn register(
        &self,
        request: proto::RegisterComponentRequest,
        names: Option<&[String]>,
    ) -> Result<proto::RegisterComponentResponse, Error> {
        let asked = self.refuse(wire::registration(request))?;
        if let Some(names) = names {
            self.check_name(&asked.id, names).await?;
        }
        let (id, kind) = (asked.id.clone(), asked.kind.as_str());
        let registered = self.plane.register(asked).await?;
        let (beat_every, unhealthy_after) = self.plane.timing_of(id.clone()).await?;
        let (fence, created) = (registered.fence, registered.created);
        tracing::info!(component = id, kind, fence, created, "component registered");
        Ok(proto::RegisterComponentResponse {
            component_id: id,
            fence,
            created,
            heartbeat_ms: millis(beat_every),
            unhealthy_after_ms: millis(unhealthy_after),
            run: self.plane.run(),
            connections: Some(registered.connections),
        })
    }

    pub(super) async fn beat(
        &self,
        request: proto::HeartbeatRequest,
    ) -> Result<proto::HeartbeatResponse, Error> {
        let (counted, now) = self.plane.beat(wire::beat(request)).await?;
        let (counted, status) = (counted.into(), now.to_wire().into());
        Ok(proto::HeartbeatResponse { counted, status, run: self.plane.run() })
    }

    pub(super) async fn component(&self, id: String) -> Result<Arc<Component>, Error> {
        self.refuse(limits::id("id", &id))?;
        self.plane.component(id).await
    }

    pub(super) async fn leave(&self, request: proto::DeregisterRequest) -> Result<(), Error> {
        let proto::DeregisterRequest { id, incarnation, reason, totals } = request;
        let incarnation = Secret::new(incarnation);
        self.plane.deregister(id.clone(), incarnation, reason.clone(), totals).await?;
        tracing::info!(component = id, reason, "component deregistered");
        Ok(())
    }
}

fn status(error: Error) -> Status {
    Status::from(sheaf_flight::Error::from_error(error))
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl ControlService {
    /// Under TLS a place is taken with its own certificate, which is of its run alone.
    async fn check_name(&self, id: &str, names: &[String]) -> Result<(), Error> {
        // Who has no place is told so by the registry, or is a worker.
        let Ok(component) = self.plane.component(id.to_owned()).await else { return Ok(()) };
        let Ok(pipeline) = self.plane.pipeline(component.pipeline.clone()).await else {
            return Ok(());
        };
        let expected = certificate_name(id, pipeline.last_run);
        if names.contains(&expected) {
            return Ok(());
        }
        let hint = "its certificate is for another place, or for another run";
        Err(Error::Refused { id: id.to_owned(), hint })
    }
}

#[async_trait]
impl Service for ControlService {
    async fn register_component(
        &self,
        request: Request<proto::RegisterComponentRequest>,
    ) -> Result<Response<proto::RegisterComponentResponse>, Status> {
        let names = sheaf_flight::certificate_names(&request);
        let request = request.into_inner();
        self.register(request, names.as_deref()).await.map(Response::new).map_err(status)
    }

    async fn heartbeat(
        &self,
        request: Request<proto::HeartbeatRequest>,
    ) -> Result<Response<proto::HeartbeatResponse>, Status> {
        self.beat(request.into_inner()).await.map(Response::new).map_err(status)
    }

    async fn get_components(
        &self,
        request: Request<proto::GetComponentsRequest>,
    ) -> Result<Response<proto::GetComponentsResponse>, Status> {
        let proto::GetComponentsRequest { filter, limit, after } = request.into_inner();
        let filter = self.read(wire::filter(filter))?;
        if !after.is_empty() {
            self.read(limits::id("after", &after))?;
        }
        let most = match usize::try_from(limit).unwrap_or(PAGE) {
            0 => PAGE,
            asked => asked.min(PAGE),
        };
        let page = self.plane.page(filter, after, most).await.map_err(status)?;
        let components = page.components.iter().map(|found| wire::component(found)).collect();
        Ok(Response::new(proto::GetComponentsResponse { components, more: page.more }))
    }

    async fn get_component_status(
        &self,
        request: Request<proto::GetComponentStatusRequest>,
    ) -> Result<Response<proto::GetComponentStatusResponse>, Status> {
        let found = self.component(request.into_inner().id).await.map_err(status)?;
        let component = Some(wire::component(&found));
        Ok(Response::new(proto::GetComponentStatusResponse { component }))
    }

    async fn deregister(
        &self,
        request: Request<proto::DeregisterRequest>,
    ) -> Result<Response<proto::DeregisterResponse>, Status> {
        self.leave(request.into_inner()).await.map_err(status)?;
        Ok(Response::new(proto::DeregisterResponse {}))
    }

    type WatchComponentsStream = BoxStream<'static, Result<proto::ComponentEvent, Status>>;

    /// Events are taken only as fast as the reader takes them from the connection.
    /// What it is too slow for piles up nowhere: it is told how much it missed.
    async fn watch_components(
        &self,
        request: Request<proto::WatchComponentsRequest>,
    ) -> Result<Response<Self::WatchComponentsStream>, Status> {
        let proto::WatchComponentsRequest { filter, current } = request.into_inner();
        let filter = self.read(wire::filter(filter))?;
        let events = self.plane.watch(filter).await.map_err(status)?;
        let there = if current { events.current } else { Vec::new() };
        let count = there.len() as u64;
        let there = there.into_iter().map(|component| {
            let at = component.registered_at;
            Event::Changed(Arc::new(Change { component, before: None, at, removed: false }))
        });
        let end = current.then_some(Event::Current(count));
        let all = stream::iter(there.chain(end)).chain(ReceiverStream::new(events.changes));
        // The end of the events is an error to whoever asked for them without end.
        let closed = stream::once(async { Err(status(closed())) });
        let all = all.map(|event| Ok(wire::event(&event))).chain(closed);
        Ok(Response::new(all.boxed()))
    }

    async fn get_pipelines(
        &self,
        request: Request<proto::GetPipelinesRequest>,
    ) -> Result<Response<proto::GetPipelinesResponse>, Status> {
        let proto::GetPipelinesRequest { ids, with_spec } = request.into_inner();
        let all = match ids.is_empty() {
            true => self.plane.pipelines().await.map_err(status)?,
            false => {
                self.read(limits::at_most("ids", ids.len(), PAGE))?;
                let mut all = Vec::new();
                for id in ids {
                    all.push(self.plane.pipeline(id).await.map_err(status)?);
                }
                all
            }
        };
        let pipelines = all.iter().map(|found| wire::pipeline(found, with_spec)).collect();
        Ok(Response::new(proto::GetPipelinesResponse { pipelines }))
    }
}
