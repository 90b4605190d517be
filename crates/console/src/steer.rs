//! `/api/restart` and `/api/stop`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_retry::Code;

use crate::console::Shared;
use crate::problem::Problem;

/// Which component, or instance.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    pipeline: String,
    component: String,
}

/// Which pipeline, and whether what is on its way is waited for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stop {
    pipeline: String,
    #[serde(default)]
    now: bool,
}

/// The body of a request.
pub(crate) fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Problem> {
    let refused = |error: JsonRejection| Problem::new(Code::InvalidArgument, error.body_text());
    body.map(|Json(body)| body).map_err(refused)
}

pub(crate) async fn restart(
    State(shared): State<Arc<Shared>>,
    asked: Result<Json<Restart>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Restart { pipeline, component } = body(asked)?;
    if component.is_empty() {
        let text = "component is empty: name the one that is to be started again";
        return Err(Problem::new(Code::InvalidArgument, text));
    }
    let count = shared.runner.restart(&pipeline, &component).await;
    let count = count.map_err(|error| Problem::of(&error))?;
    tracing::info!(pipeline, component, instances = count, "started again from the console");
    Ok(Json(json!({"instances": count})))
}

/// Does not wait for the end: the page sees the state change.
pub(crate) async fn stop(
    State(shared): State<Arc<Shared>>,
    asked: Result<Json<Stop>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Stop { pipeline, now } = body(asked)?;
    if !shared.runner.running().contains(&pipeline) {
        let text = format!("pipeline {pipeline} does not run here");
        return Err(Problem::new(Code::NotFound, text));
    }
    tracing::info!(pipeline, now, "stopped from the console");
    let runner = shared.runner.clone();
    let named = pipeline.clone();
    tokio::spawn(async move {
        if let Err(error) = runner.stop(&named, now, "it was stopped from the console").await {
            tracing::warn!(%error, pipeline = named, "a stop from the console failed");
        }
    });
    Ok(Json(json!({"pipeline": pipeline, "stopping": true})))
}
