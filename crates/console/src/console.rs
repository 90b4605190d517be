//! The console: its state, its routes, its end.

use std::fmt;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use sheaf_drivers::control::ServerToken;
use sheaf_drivers::runner::Runner;
use sheaf_retry::{Code, SharedClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::coordinators::Coordinators;
use crate::figures::Reader;
use crate::live::Live;
use crate::metrics::Figures;
use crate::pictures::Pictures;
use crate::problem::Problem;
use crate::{assets, batches, events, guard, logs, pipelines, steer};

/// Listeners to figures and logs at once; further ones are told to come back.
pub const MAX_STREAMS: usize = 16;
/// Bytes of a request.
const MAX_BODY: usize = 256 << 10;
/// Bytes of a question.
const MAX_NONCE: usize = 128;

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) runner: Runner,
    pub(crate) coordinators: Coordinators,
    pub(crate) clock: SharedClock,
    pub(crate) live: Live,
    pub(crate) pictures: Pictures,
    pub(crate) stopping: CancellationToken,
    token: ServerToken,
    streams: Arc<Semaphore>,
}

impl Shared {
    /// For an answer that goes on.
    pub(crate) fn take_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let text = format!("{MAX_STREAMS} pages look already: close one");
            Problem::new(Code::Overloaded, text)
        })
    }
}

/// A question that only who has the token can answer.
#[derive(Deserialize)]
struct Question {
    nonce: String,
}

/// For `sheafctl console`, which hands the token to nobody else. The answer tells nothing of it.
async fn prove(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Question>,
) -> Result<Json<Value>, Problem> {
    if asked.nonce.len() > MAX_NONCE {
        let text = format!("nonce is longer than {MAX_NONCE} bytes");
        return Err(Problem::new(Code::LimitExceeded, text));
    }
    Ok(Json(json!({"proof": shared.token.proof(&asked.nonce)})))
}

/// Samples a control plane, and answers for it. It ends when it is dropped.
pub struct Console {
    shared: Arc<Shared>,
    sampling: JoinHandle<()>,
}

impl Console {
    /// Begins to sample. Call it on a tokio runtime.
    pub fn start(
        runner: Runner,
        token: ServerToken,
        coordinators: Coordinators,
        clock: SharedClock,
    ) -> Self {
        let reader = Reader::new(clock.clone());
        Console::start_with(runner, token, coordinators, reader, clock)
    }

    /// [`Console::start`] with a reader that can ask components under TLS.
    pub fn start_with(
        runner: Runner,
        token: ServerToken,
        coordinators: Coordinators,
        reader: Reader,
        clock: SharedClock,
    ) -> Self {
        let shared = Arc::new(Shared {
            runner,
            coordinators,
            clock,
            live: Live::new(),
            pictures: Pictures::default(),
            stopping: CancellationToken::new(),
            token,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        });
        let sampled = Arc::clone(&shared);
        let sampling = tokio::spawn(async move {
            sampled.live.run(sampled.runner.plane(), &reader, &sampled.clock).await;
        });
        Console { shared, sampling }
    }

    /// All that it answers, for an HTTP server: see the table of the crate.
    pub fn router(&self) -> Router {
        let guarded = Router::new()
            .route("/api/logs", get(logs::logs))
            .route("/api/batches", get(batches::list))
            .route("/api/requeue", post(batches::requeue))
            .route("/api/restart", post(steer::restart))
            .route("/api/stop", post(steer::stop))
            .route_layer(middleware::from_fn_with_state(self.shared.token.clone(), guard::token));
        assets::routes()
            .route("/api/pipelines", get(pipelines::list))
            .route("/api/picture", get(pipelines::picture))
            .route("/api/history", get(pipelines::history))
            .route("/api/events", get(events::events))
            .route("/api/proof", get(prove))
            .merge(guarded)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(guard::local))
            .with_state(Arc::clone(&self.shared))
    }

    /// Shows figures of every component and edge beside what else a registry has, as they were
    /// read last: `sheaf_pipeline_component_*` and `sheaf_pipeline_edge_*`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(Figures(Arc::clone(&self.shared))));
    }

    /// Ends all answers that go on, so that the server can end.
    pub fn stop(&self) {
        self.shared.stopping.cancel();
        self.sampling.abort();
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("runner", &self.shared.runner).finish_non_exhaustive()
    }
}
