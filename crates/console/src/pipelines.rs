//! `/api/pipelines`, `/api/picture` and `/api/history`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sheaf_pipeline::registry::{Pipeline, Run};
use sheaf_retry::Timestamp;

use crate::console::Shared;
use crate::history::Told;
use crate::problem::Problem;

/// Which pipeline.
#[derive(Debug, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) pipeline: String,
}

/// Where a pipeline stands.
#[derive(Debug, Serialize)]
pub(crate) struct Summary<'a> {
    id: &'a str,
    state: &'static str,
    reason: &'a str,
    run: u64,
    plan_hash: &'a str,
    started_at_ms: Option<u64>,
    stopped_at_ms: Option<u64>,
}

impl<'a> Summary<'a> {
    pub(crate) fn of(pipeline: &'a Pipeline) -> Self {
        Summary {
            id: &pipeline.plan.id,
            state: pipeline.state.as_str(),
            reason: &pipeline.reason,
            run: pipeline.last_run,
            plan_hash: &pipeline.plan.plan_hash,
            started_at_ms: pipeline.started_at.map(Timestamp::as_millis),
            stopped_at_ms: pipeline.stopped_at.map(Timestamp::as_millis),
        }
    }
}

fn run(run: &Run) -> Value {
    json!({
        "run": run.number,
        "outcome": run.end.map_or("running", |(_, state)| state.as_str()),
        "reason": run.reason,
        "started_at_ms": run.started_at.as_millis(),
        "stopped_at_ms": run.end.map(|(at, _)| at.as_millis()),
    })
}

/// All that are known, with their runs, newest first.
pub(crate) async fn list(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let all = shared.runner.plane().pipelines().await.map_err(|error| Problem::of(&error))?;
    let one = |pipeline: &Arc<Pipeline>| {
        json!({
            "summary": Summary::of(pipeline),
            "runs": pipeline.runs.iter().rev().map(run).collect::<Vec<_>>(),
            "has_coordinator": shared.coordinators.of(&pipeline.plan.id).is_some(),
        })
    };
    Ok(Json(json!({
        "now_ms": shared.clock.now().as_millis(),
        "version": env!("CARGO_PKG_VERSION"),
        "driver": shared.runner.driver().name(),
        "pipelines": all.iter().map(one).collect::<Vec<_>>(),
    })))
}

/// Where its components and edges stand; `null` where its file cannot be read any more.
pub(crate) async fn picture(
    State(shared): State<Arc<Shared>>,
    Query(named): Query<Named>,
) -> Result<Json<Value>, Problem> {
    let found = shared.runner.plane().pipeline(named.pipeline).await;
    let found = found.map_err(|error| Problem::of(&error))?;
    let picture = shared.pictures.of(&found).await;
    Ok(Json(json!({"plan_hash": found.plan.plan_hash, "picture": picture})))
}

/// What is remembered of its figures; nothing of one that is not known.
pub(crate) async fn history(
    State(shared): State<Arc<Shared>>,
    Query(named): Query<Named>,
) -> Json<Told> {
    Json(shared.live.history(&named.pipeline))
}
