//! `/api/logs`: what components wrote.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use sheaf_drivers::LogLine;
use sheaf_retry::Code;

use crate::console::Shared;
use crate::problem::Problem;

/// Lines where nothing is said.
const LINES: usize = 200;
/// Most lines from before.
const MOST: usize = 5_000;

/// Whose lines.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pipeline: String,
    #[serde(default)]
    component: String,
    tail: Option<usize>,
    #[serde(default)]
    follow: bool,
}

/// A JSON document a line; with `follow` without end.
pub(crate) async fn logs(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let tail = asked.tail.unwrap_or(LINES);
    if tail > MOST {
        let text = format!("tail is {tail}, and may be {MOST} at most");
        return Err(Problem::new(Code::LimitExceeded, text));
    }
    let place = shared.take_place()?;
    let places = shared.runner.named(&asked.pipeline, &asked.component).await;
    let places = places.map_err(|error| Problem::of(&error))?;
    let lines = shared.runner.driver().logs(&places, tail, asked.follow).await;
    let lines = lines.map_err(|error| Problem::new(Code::FailedPrecondition, error.to_string()))?;
    let lines = lines.map(move |line| {
        // The place is held as long as lines are read.
        let _held = &place;
        let LogLine { at, instance, is_error, text } = line;
        let at_ms = at.as_millis();
        let line = json!({"at_ms": at_ms, "instance": instance, "error": is_error, "text": text});
        Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\n")))
    });
    let lines = lines.take_until(shared.stopping.clone().cancelled_owned());
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8")];
    Ok((kind, Body::from_stream(lines)).into_response())
}
