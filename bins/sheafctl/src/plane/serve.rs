//! The port of a control plane.

use sheaf_drivers::control::PipelineService;
use sheaf_flight::{Error, FlightRouter, Listener, Server, ServerHandle};
use sheaf_pipeline::control::{ControlPlane, ControlService};

/// Serves the registry, and what starts and stops.
pub(super) async fn serve(
    listener: Listener,
    plane: &ControlPlane,
    pipelines: PipelineService,
) -> Result<ServerHandle, Error> {
    let registry = ControlService::new(plane.clone());
    let namespace = ControlService::NAMESPACE;
    Server::new(FlightRouter::builder().build()?)
        .descriptors(sheaf_proto::FILE_DESCRIPTOR_SET)
        .add_service_in(namespace, ControlService::NEEDS, registry.into_server())
        .add_service_in(namespace, PipelineService::NEEDS, pipelines.into_server())
        .serve(listener)
        .await
}
