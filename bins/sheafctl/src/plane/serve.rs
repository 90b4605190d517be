//! The port of a control plane.

use std::sync::Arc;

use sheaf_drivers::control::PipelineService;
use sheaf_flight::{Error, FlightRouter, Listener, Security, Server, ServerHandle};
use sheaf_pipeline::control::{ControlActions, ControlPlane, ControlService};

/// Serves the registry, and what starts and stops.
pub(super) async fn serve(
    listener: Listener,
    plane: &ControlPlane,
    pipelines: PipelineService,
    security: Security,
) -> Result<ServerHandle, Error> {
    let registry = ControlService::new(plane.clone());
    let namespace = ControlService::NAMESPACE;
    let actions = Arc::new(ControlActions::new(registry.clone()));
    Server::new(FlightRouter::builder().actions(actions).build()?)
        .security(security)
        .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
        .add_service_in(namespace, ControlService::NEEDS, registry.into_server())
        .add_service_in(namespace, PipelineService::NEEDS, pipelines.into_server())
        .serve(listener)
        .await
}
