//! The worker pool as its owner sees it.

use std::sync::{Arc, Mutex, PoisonError};

use sheaf_connectors::Sink;
use sheaf_coordinator::Coordinator;
use sheaf_proto::SharedTracer;
use sheaf_retry::SharedClock;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::driver::Driver;
use crate::error::Error;
use crate::job::Tools;
use crate::metrics::Metrics;
use crate::payloads::Payloads;
use crate::processor::Processor;
use crate::rest::Rests;

/// A pool of workers: claims batches, works on them, settles them.
///
/// It holds at most `worker_count` running and `prefetch` waiting batches and
/// at most `max_bytes` of payload. Work that arrives wakes it; the poll
/// interval is only the longest time that a claim waits. A lease that is lost
/// cancels its work; a panic of the processor fails only its attempt. While
/// the coordinator cannot be reached nothing is claimed, results are kept and
/// sent again, and work whose lease runs out meanwhile is stopped.
pub struct Worker {
    state: Mutex<State>,
    stop: CancellationToken,
    metrics: Metrics,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("stopping", &self.stop.is_cancelled()).finish()
    }
}

enum State {
    Made(Box<Driver>),
    Running(JoinHandle<Summary>),
    Over,
}

/// What a pool did, told at its shutdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Attempts that completed.
    pub completed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Leases given back: prefetched, or running when the grace period ended.
    pub released: u64,
    /// Leases that were lost.
    pub lost: u64,
    /// Results that the coordinator never took; their leases run out by themselves.
    pub unsettled: u64,
}

/// What a pool works with. [`Parts::new`] takes what there has to be.
pub struct Parts {
    /// Knows what is to be done.
    pub coordinator: Arc<dyn Coordinator>,
    /// Where the data is.
    pub payloads: Arc<dyn Payloads>,
    /// What is done with it.
    pub processor: Arc<dyn Processor>,
    /// Where the rows go; `None` drops them.
    pub sink: Option<Arc<dyn Sink>>,
    /// Time.
    pub clock: SharedClock,
    /// Counters; see [`Metrics::register`].
    pub metrics: Metrics,
    /// Who records a span for each attempt; `None` records nothing.
    pub tracer: Option<SharedTracer>,
}

impl Parts {
    /// Without a sink: rows are dropped when they are processed. With counters
    /// that nobody reads.
    pub fn new(
        coordinator: Arc<dyn Coordinator>,
        payloads: Arc<dyn Payloads>,
        processor: Arc<dyn Processor>,
        clock: SharedClock,
    ) -> Self {
        let (sink, metrics, tracer) = (None, Metrics::default(), None);
        Parts { coordinator, payloads, processor, sink, clock, metrics, tracer }
    }

    /// The rows go there, each batch once.
    #[must_use]
    pub fn with_sink(self, sink: Arc<dyn Sink>) -> Self {
        Parts { sink: Some(sink), ..self }
    }

    /// Counts with these; see [`Metrics::register`].
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Parts { metrics, ..self }
    }

    /// A span for each attempt, which goes on with the trace of its batch. Without a tracer,
    /// batches that are made carry the trace on that their batch came with.
    #[must_use]
    pub fn traced_by(self, tracer: Option<SharedTracer>) -> Self {
        Parts { tracer, ..self }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("processor", &self.processor.describe())
            .field("sink", &self.sink.as_ref().map(|sink| sink.describe()))
            .finish_non_exhaustive()
    }
}

impl Worker {
    /// A pool that does not run yet.
    ///
    /// # Errors
    /// [`Error::Config`] with everything that is wrong.
    pub fn new(config: Config, parts: Parts) -> Result<Self, Error> {
        config.check()?;
        let stop = CancellationToken::new();
        let metrics = parts.metrics.clone();
        let tools = Tools {
            clock: parts.clock.clone(),
            coordinator: parts.coordinator,
            payloads: parts.payloads,
            processor: parts.processor,
            sink: parts.sink,
            rests: Rests::new(parts.clock.clone()),
            tracer: parts.tracer,
        };
        let driver = Driver::new(config, tools, parts.clock, parts.metrics, stop.clone());
        Ok(Worker { state: Mutex::new(State::Made(Box::new(driver))), stop, metrics })
    }

    /// Starts it on the current tokio runtime.
    ///
    /// # Errors
    /// [`Error::Started`] the second time.
    pub fn start(&self) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Over) {
            State::Made(driver) => {
                *state = State::Running(tokio::spawn(driver.run()));
                Ok(())
            }
            other => {
                *state = other;
                Err(Error::Started)
            }
        }
    }

    /// Stops claiming, gives back what has not begun, waits up to the grace
    /// period for what runs, gives back the rest, and settles everything.
    /// Attempts of work that is given back are not charged.
    pub async fn shutdown(&self) -> Summary {
        self.stop.cancel();
        let state = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *state, State::Over)
        };
        match state {
            State::Running(task) => task.await.unwrap_or_else(|error| {
                tracing::error!(%error, "the worker pool died; its leases run out by themselves");
                Summary::default()
            }),
            State::Made(_) | State::Over => Summary::default(),
        }
    }

    /// Whether it was started and neither stopped nor died: for a health page.
    pub fn is_alive(&self) -> bool {
        match &*self.state.lock().unwrap_or_else(PoisonError::into_inner) {
            State::Running(task) => !task.is_finished(),
            State::Made(_) | State::Over => false,
        }
    }

    /// Batches worked on now.
    pub fn running(&self) -> u64 {
        u64::try_from(self.metrics.running.get()).unwrap_or(0)
    }
}

impl Drop for Worker {
    /// Without [`Worker::shutdown`] the pool stops in the background.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
