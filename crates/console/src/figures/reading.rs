//! One look at everything that runs.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use sheaf_flight::TlsFiles;
use sheaf_pipeline::health::{Endpoint, Poller};
use sheaf_pipeline::registry::Component;
use sheaf_retry::SharedClock;

use super::stats::Stats;

/// Components that are asked at a time.
const AT_ONCE: usize = 32;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer: a component with very many streams has as much to tell.
const MOST: usize = 16 << 20;

/// How the error ends of who has no such page.
const NOTHING: &str = ": 404 Not Found";

/// What was seen at one time.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Time of this process.
    pub at: Duration,
    /// All places that were asked for, in the order of the registry.
    pub instances: Vec<Instance>,
}

/// One place.
#[derive(Clone, Debug)]
pub struct Instance {
    /// As the registry has it.
    pub component: Arc<Component>,
    /// What it told, or why it told nothing; `None` where nobody is there to be asked.
    pub stats: Option<Result<Stats, String>>,
}

/// Asks components at `/stats`.
#[derive(Clone, Debug)]
pub struct Reader {
    poller: Poller,
    clock: SharedClock,
}

impl Reader {
    /// A reader that has asked nobody yet.
    pub fn new(clock: SharedClock) -> Self {
        Reader { poller: Poller::new(PATIENCE, clock.clone()), clock }
    }

    /// Asks components that are under TLS with this certificate.
    #[must_use]
    pub fn with_tls(self, tls: Option<TlsFiles>) -> Self {
        Reader { poller: self.poller.with_tls(tls), ..self }
    }

    /// Asks all of them, at most 32 at a time; who does not answer within 2 s has not.
    pub async fn read(&self, components: Vec<Arc<Component>>) -> Reading {
        let at = self.clock.elapsed();
        let asked = components.into_iter().map(|component| self.ask(component));
        let instances = stream::iter(asked).buffered(AT_ONCE).collect().await;
        Reading { at, instances }
    }

    async fn ask(&self, component: Arc<Component>) -> Instance {
        let stats = match component.status.is_held() {
            true => self.stats(&component).await,
            false => None,
        };
        Instance { component, stats }
    }

    /// What one tells; `None` where it has no endpoint.
    pub async fn stats(&self, component: &Component) -> Option<Result<Stats, String>> {
        let endpoint = Endpoint::checked(&component.health_endpoint, &component.address);
        let endpoint = endpoint.ok().flatten()?;
        let told = self.poller.fetch(&endpoint, "/stats", MOST).await;
        // A component of somebody's own need not have that.
        if told.as_ref().is_err_and(|why| why.ends_with(NOTHING)) {
            return None;
        }
        let read = |told: bytes::Bytes| serde_json::from_slice(&told);
        Some(told.and_then(|told| read(told).map_err(|error| format!("/stats: {error}"))))
    }
}
