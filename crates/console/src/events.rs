//! `/api/events`: figures as they come.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;

use crate::console::Shared;
use crate::figures::{ComponentRow, EdgeRow};
use crate::live::Snapshot;
use crate::pipelines::{Named, Summary};
use crate::problem::Problem;

/// A comment in between tells proxies and the page that the connection stands.
const ALIVE: Duration = Duration::from_secs(10);

/// One instance.
#[derive(Serialize)]
struct Component<'a> {
    #[serde(flatten)]
    row: &'a ComponentRow,
    pipeline: &'a str,
    component: &'a str,
    replica: u32,
    address: &'a str,
    version: &'a str,
    last_heartbeat_ms: u64,
    registered_at_ms: u64,
}

/// Everything of one pipeline, and the states of all.
#[derive(Serialize)]
struct Figures<'a> {
    at_ms: u64,
    pipelines: Vec<Summary<'a>>,
    components: Vec<Component<'a>>,
    edges: Vec<&'a EdgeRow>,
}

impl<'a> Figures<'a> {
    fn of(snapshot: &'a Snapshot, pipeline: &str) -> Self {
        let both = snapshot.components.iter().zip(&snapshot.rows.components);
        let components = both.filter(|(one, _)| one.pipeline == pipeline);
        let edges = snapshot.rows.edges.iter().filter(|row| row.pipeline == pipeline);
        Figures {
            at_ms: snapshot.at.as_millis(),
            pipelines: snapshot.pipelines.iter().map(|one| Summary::of(one)).collect(),
            components: components
                .map(|(one, row)| Component {
                    row,
                    pipeline: &one.pipeline,
                    component: &one.component,
                    replica: one.replica,
                    address: &one.address,
                    version: &one.metadata.version,
                    last_heartbeat_ms: one.last_heartbeat.as_millis(),
                    registered_at_ms: one.registered_at.as_millis(),
                })
                .collect(),
            edges: edges.collect(),
        }
    }
}

/// One listener of at most so many; who does not read is cut off by the port.
pub(crate) async fn events(
    State(shared): State<Arc<Shared>>,
    Query(named): Query<Named>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let place = shared.take_place()?;
    let receiver = shared.live.watch();
    let stopping = shared.stopping.clone();
    let news = stream::unfold((receiver, place, named), |(mut receiver, place, named)| async {
        receiver.changed().await.ok()?;
        let snapshot = Arc::clone(&receiver.borrow_and_update());
        let figures = Figures::of(&snapshot, &named.pipeline);
        // Numbers and texts can always be written.
        let event = Event::default().event("figures").json_data(figures).ok()?;
        Some((Ok(event), (receiver, place, named)))
    });
    let news = news.take_until(stopping.cancelled_owned());
    Ok(Sse::new(news).keep_alive(KeepAlive::new().interval(ALIVE)))
}
