//! What a component by itself is to do.

use std::path::Path;

use serde_json::{Map, Value, json};
use sheaf_components::{Host, build};
use sheaf_dataflow::{AnyComponent, Sink, Start};
use sheaf_pipeline::spec::{Component, Role};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::failure;
use crate::cli::Format;

pub(super) fn definition(kind: &str, config: Option<&Path>) -> Result<Component, Failure> {
    let config = match config {
        None => Map::new(),
        Some(path) => {
            let place = path.display();
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(Code::InvalidArgument, format!("--config {place} cannot be read"))
                    .because(error)
            })?;
            // As files of pipelines are read: `n` is a name, and no `false`.
            let options = serde_saphyr::options! { strict_booleans: true };
            serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
                let text = format!("--config {place} is not a map in YAML or JSON");
                Failure::new(Code::InvalidArgument, text).because(error)
            })?
        }
    };
    component(kind, config)
}

fn component(kind: &str, config: Map<String, Value>) -> Result<Component, Failure> {
    serde_json::from_value(json!({"id": kind, "kind": kind, "config": config})).map_err(|error| {
        Failure::new(Code::Internal, "the component cannot be described").because(error)
    })
}

/// Prints as the sink does.
pub(super) async fn printer(format: Format, host: &Host) -> Result<Box<dyn Sink>, Failure> {
    let config = Map::from_iter([("format".to_owned(), format.as_str().into())]);
    let start = Start {
        pipeline: "alone".into(),
        component: "print".into(),
        config: Map::new(),
        instance: 0,
        replicas: 1,
        state_dir: std::env::temp_dir(),
        offset: None,
    };
    match build(Role::Sink, &component("stdout", config)?, start, host).await.map_err(failure)? {
        AnyComponent::Sink(sink) => Ok(sink),
        _ => Err(Failure::new(Code::Internal, "what prints is no sink")),
    }
}
