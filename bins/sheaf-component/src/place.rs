//! A component at its place in a pipeline.

use std::path::Path;

use sheaf_components::build;
use sheaf_dataflow::{Assignment, SharedTracer};
use sheaf_terminal::Failure;

use crate::alone::failure;
use crate::host::host;

/// Takes the place of an assignment, until all is done or it is told to stop.
pub(crate) async fn run(path: &Path, tracer: Option<SharedTracer>) -> Result<(), Failure> {
    let assignment = Assignment::read(path).map_err(failure)?;
    let host = host(assignment.run);
    let (role, definition) = (assignment.role, assignment.definition.clone());
    let make = async |start| build(role, &definition, start, &host).await;
    let hosted = sheaf_dataflow::Host::new(assignment).traced_by(tracer);
    hosted.run(make).await.map_err(failure)
}
