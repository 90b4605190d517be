//! What things are called in the engine, and the labels that they carry.

use std::collections::HashMap;

use crate::LaunchId;

/// The label with the name of the pipeline.
pub(super) const PIPELINE: &str = "dev.sheaf.pipeline";
/// The label with the place in the registry.
pub(super) const PLACE: &str = "dev.sheaf.place";
/// The label with the number of the start.
pub(super) const ATTEMPT: &str = "dev.sheaf.attempt";
/// The label with the control plane that the container is told, where it listens here only.
pub(super) const CONTROL: &str = "dev.sheaf.control";

/// The label with the store of durable edges that it is told, where that listens here only.
pub(super) const STORE: &str = "dev.sheaf.store";

/// The label with whose it is.
pub(super) const OWNER: &str = "dev.sheaf.owner";

/// The network of a pipeline.
pub(super) fn network(pipeline: &str) -> String {
    format!("sheaf.{pipeline}")
}

/// The volume of a place. Dots separate: names have none but before the number of an instance.
pub(super) fn volume(place: &str) -> String {
    format!("sheaf.{}", place.replace(':', "."))
}

/// The container of a launch.
pub(super) fn container(id: &LaunchId) -> String {
    format!("{}.{}", volume(&id.place), id.attempt)
}

/// The pipeline of a place.
pub(super) fn pipeline(place: &str) -> &str {
    place.split_once(':').map_or(place, |(pipeline, _)| pipeline)
}

/// The launch that a container with such labels is of; `None` for one that is not ours.
pub(super) fn launch(labels: &HashMap<String, String>) -> Option<LaunchId> {
    let attempt = labels.get(ATTEMPT)?.parse().ok()?;
    Some(LaunchId { place: labels.get(PLACE)?.clone(), attempt })
}
