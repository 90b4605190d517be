//! `/api/batches` and `/api/requeue`: what the coordinator of a pipeline knows.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_coordinator::{
    Batch, Control, Coordinator, CoordinatorExt as _, ListFilter, QueueStats, Settled, State as Is,
    Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Timestamp};

use crate::console::Shared;
use crate::problem::Problem;
use crate::steer::body;

/// Batches of a page.
const PAGE: u32 = 100;
/// Batches that may be named at a time.
const MOST: usize = 1_000;

/// Which batches are to be shown.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pipeline: String,
    /// One state; failed ones where nothing is said.
    state: Option<String>,
    queue: Option<String>,
    #[serde(default)]
    cursor: String,
}

/// Which batches are to start anew: those named, or all failed ones of a queue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Requeue {
    pipeline: String,
    #[serde(default)]
    ids: Vec<String>,
    queue: Option<String>,
}

fn coordinator(shared: &Shared, pipeline: &str) -> Result<Arc<dyn Coordinator>, Problem> {
    shared.coordinators.of(pipeline).ok_or_else(|| {
        let text = format!(
            "pipeline {pipeline} has no coordinator that is known here: it has no durable edge, \
             or --coordinator does not say where its batches are"
        );
        Problem::new(Code::NotFound, text)
    })
}

fn state(text: &str) -> Result<Is, Problem> {
    let found = Is::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| {
        let all = Is::ALL.map(Is::as_str).join(", ");
        Problem::new(Code::InvalidArgument, format!("state is none of {all}"))
    })
}

/// Counts by state, and a page of batches in one of them.
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let refused = |error: QueryRejection| Problem::new(Code::InvalidArgument, error.body_text());
    let Query(asked) = asked.map_err(refused)?;
    let of = state(asked.state.as_deref().unwrap_or(Is::Failed.as_str()))?;
    let coordinator = coordinator(&shared, &asked.pipeline)?;
    let filter = ListFilter {
        states: vec![of],
        queue: asked.queue.filter(|queue| !queue.is_empty()),
        limit: PAGE,
        cursor: asked.cursor,
        ..ListFilter::default()
    };
    let both = futures::try_join!(coordinator.stats(None), coordinator.list(filter));
    let (queues, page) = both.map_err(|error| Problem::of(&error))?;
    Ok(Json(json!({
        "state": of.as_str(),
        "counts": counts(&queues),
        "queues": queues.iter().map(queue).collect::<Vec<_>>(),
        "batches": page.batches.iter().map(batch).collect::<Vec<_>>(),
        "next_cursor": page.next_cursor,
    })))
}

/// By state, over all queues.
fn counts(queues: &[QueueStats]) -> BTreeMap<&'static str, u64> {
    let mut sums: BTreeMap<&'static str, u64> =
        Is::ALL.iter().map(|state| (state.as_str(), 0)).collect();
    for (state, count) in queues.iter().flat_map(|queue| &queue.counts) {
        *sums.entry(state.as_str()).or_default() += count;
    }
    sums
}

fn queue(queue: &QueueStats) -> Value {
    let counts = queue.counts.iter().map(|(state, count)| (state.as_str(), count));
    json!({
        "queue": queue.queue,
        "paused": queue.paused,
        "draining": queue.draining,
        "counts": counts.collect::<BTreeMap<_, _>>(),
        "live_bytes": queue.live_bytes,
        "oldest_pending_at_ms": queue.oldest_pending_at.map(Timestamp::as_millis),
    })
}

fn batch(batch: &Batch) -> Value {
    let error = batch.error.as_ref().map(|error| {
        json!({
            "code": error.code.as_str(),
            "message": error.message,
            "permanent": error.permanent,
            "at_ms": error.at.as_millis(),
        })
    });
    json!({
        "id": batch.spec.id.as_str(),
        "queue": batch.spec.queue,
        "state": batch.state.as_str(),
        "attempts": batch.attempts,
        "rows": batch.spec.rows,
        "bytes": batch.spec.bytes,
        "error": error,
        "registered_at_ms": batch.registered_at.as_millis(),
        "updated_at_ms": batch.updated_at.as_millis(),
    })
}

/// Answers what has become of each, and how many have changed.
pub(crate) async fn requeue(
    State(shared): State<Arc<Shared>>,
    asked: Result<Json<Requeue>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Requeue { pipeline, ids, queue } = body(asked)?;
    let invalid = |text: String| Problem::new(Code::InvalidArgument, text);
    if ids.len() > MOST {
        let text = format!("{} batches are named, and may be {MOST} at most", ids.len());
        return Err(Problem::new(Code::LimitExceeded, text));
    }
    let coordinator = coordinator(&shared, &pipeline)?;
    let control = match (ids.is_empty(), queue) {
        (false, None) => {
            let parsed = ids.iter().map(|id| id.parse::<BatchId>()).collect::<Result<_, _>>();
            Control::Requeue(parsed.map_err(|error| invalid(format!("ids: {error}")))?)
        }
        (true, Some(queue)) => Control::RequeueFailed(queue),
        _ => return Err(invalid("name either ids or a queue".to_owned())),
    };
    let reply = coordinator.control(control).await.map_err(|error| Problem::of(&error))?;
    tracing::info!(pipeline, batches = reply.count, "requeued from the console");
    let batches = reply.batches.iter().map(settled).collect::<Vec<_>>();
    Ok(Json(json!({"count": reply.count, "batches": batches})))
}

fn settled(settled: &Settled) -> Value {
    let verdict = match settled.verdict {
        Verdict::Applied => "applied",
        Verdict::AlreadyDone => "already_done",
        Verdict::Stale => "stale",
        Verdict::NotFound => "not_found",
    };
    json!({
        "id": settled.id.as_str(),
        "verdict": verdict,
        "state": settled.state.map(Is::as_str),
    })
}
