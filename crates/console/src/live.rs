//! Reads all figures again and again, as often as somebody looks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::registry::{Component, Filter, Kind, Pipeline};
use sheaf_retry::{SharedClock, Timestamp};
use tokio::sync::{Notify, watch};

use crate::figures::{Reader, Reading, Rows};
use crate::history::{History, Told};

/// While somebody looks.
const OFTEN: Duration = Duration::from_secs(1);
/// While nobody does: history goes on, and costs next to nothing.
const SELDOM: Duration = Duration::from_secs(15);

/// Everything as it was at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) at: Timestamp,
    pub(crate) pipelines: Vec<Arc<Pipeline>>,
    /// In the order of the rows of components.
    pub(crate) components: Vec<Arc<Component>>,
    pub(crate) rows: Rows,
}

/// What was read last, and before.
#[derive(Debug)]
pub(crate) struct Live {
    last: watch::Sender<Arc<Snapshot>>,
    history: Mutex<History>,
    /// Somebody came to look.
    came: Notify,
}

impl Live {
    pub(crate) fn new() -> Self {
        let last = watch::Sender::new(Arc::default());
        Live { last, history: Mutex::default(), came: Notify::new() }
    }

    /// What comes from now on. Who is slow misses what came between, and nothing waits for it.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        let receiver = self.last.subscribe();
        self.came.notify_one();
        receiver
    }

    /// What was read last.
    pub(crate) fn last(&self) -> Arc<Snapshot> {
        Arc::clone(&self.last.borrow())
    }

    /// What is remembered of a pipeline.
    pub(crate) fn history(&self, pipeline: &str) -> Told {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).of(pipeline)
    }

    /// Reads without end.
    pub(crate) async fn run(&self, plane: &ControlPlane, reader: &Reader, clock: &SharedClock) {
        let mut before = None;
        loop {
            match self.read(plane, reader, before.as_ref(), clock).await {
                Some(reading) => before = Some(reading),
                // The control plane is closed.
                None => return,
            }
            let pause = if self.last.receiver_count() > 0 { OFTEN } else { SELDOM };
            tokio::select! {
                () = clock.sleep(pause) => {}
                () = self.came.notified() => clock.sleep(OFTEN / 10).await,
            }
        }
    }

    async fn read(
        &self,
        plane: &ControlPlane,
        reader: &Reader,
        before: Option<&Reading>,
        clock: &SharedClock,
    ) -> Option<Reading> {
        let pipelines = plane.pipelines().await.ok()?;
        let kinds = vec![Kind::Source, Kind::Processor, Kind::Sink];
        let components = plane.select(Filter { kinds, ..Filter::default() }).await.ok()?;
        let reading = reader.read(components).await;
        let rows = Rows::of(before, &reading);
        let at = clock.now();
        self.history.lock().unwrap_or_else(PoisonError::into_inner).add(at.as_millis(), &rows);
        let components = reading.instances.iter().map(|one| Arc::clone(&one.component)).collect();
        self.last.send_replace(Arc::new(Snapshot { at, pipelines, components, rows }));
        Some(reading)
    }
}
