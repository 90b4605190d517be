//! One look at everything that runs.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use sheaf_pipeline::health::{Endpoint, Poller};
use sheaf_pipeline::registry::Component;
use sheaf_terminal::Failure;

use super::super::client::Client;
use super::stats::Stats;

/// Components that are asked at a time.
const AT_ONCE: usize = 32;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer: a component with very many streams has as much to tell.
const MOST: usize = 16 << 20;

/// What was seen at one time.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// Time of this process.
    pub(super) at: Duration,
    pub(super) instances: Vec<Instance>,
}

/// One place.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) component: Component,
    /// What it told, or why it told nothing; `None` where nobody is there to be asked.
    pub(super) stats: Option<Result<Stats, String>>,
}

/// Asks the registry, and all that it knows.
pub(super) async fn read(client: &Client, pipeline: Option<&str>) -> Result<Reading, Failure> {
    let components = client.components(pipeline).await?;
    let poller = Poller::new(PATIENCE, client.clock.clone()).with_tls(client.health.clone());
    let at = client.clock.elapsed();
    let asked = components.into_iter().map(|component| ask(&poller, component));
    let instances = stream::iter(asked).buffered(AT_ONCE).collect().await;
    Ok(Reading { at, instances })
}

async fn ask(poller: &Poller, component: Component) -> Instance {
    let endpoint = Endpoint::checked(&component.health_endpoint, &component.address);
    let stats = match endpoint {
        Ok(Some(endpoint)) if component.status.is_held() => {
            let told = poller.fetch(&endpoint, "/stats", MOST).await;
            Some(told.and_then(|told| {
                serde_json::from_slice(&told).map_err(|error| format!("/stats: {error}"))
            }))
        }
        _ => None,
    };
    Instance { component, stats }
}
