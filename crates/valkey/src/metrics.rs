//! What a coordinator on Valkey counts: its own calls and what they brought about, not
//! those of other processes. Together all of them count everything once.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sheaf_coordinator::{Error, Registered, Settled, State, Verdict};
use sheaf_retry::Retryable as _;

use crate::coordinator::Shared;
use crate::unpack::Reader;

type Call = [(&'static str, &'static str); 1];
type Failure = [(&'static str, &'static str); 2];

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    transitions: Family<Call, Counter>,
    purged: Counter,
    wait: Histogram,
    calls: Family<Call, Counter>,
    failures: Family<Failure, Counter>,
    duration: Family<Call, Histogram>,
    registered: Counter,
    claims: Counter,
    claimed: Counter,
    settled: Family<Call, Counter>,
    stale: Counter,
    waiting: Gauge,
    pub(crate) listener_restarts: Counter,
}

fn latencies() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 2.0, 14))
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Metrics {
            transitions: Family::default(),
            purged: Counter::default(),
            wait: Histogram::new(exponential_buckets(0.000_25, 4.0, 12)),
            calls: Family::default(),
            failures: Family::default(),
            duration: Family::new_with_constructor(latencies as fn() -> Histogram),
            registered: Counter::default(),
            claims: Counter::default(),
            claimed: Counter::default(),
            settled: Family::default(),
            stale: Counter::default(),
            waiting: Gauge::default(),
            listener_restarts: Counter::default(),
        }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("sheaf_coordinator");
        registry.register(
            "transitions",
            "Batches that went into a state by a call of this process",
            self.transitions.clone(),
        );
        registry.register("purged", "Terminal batches that were removed", self.purged.clone());
        registry.register_with_unit(
            "wait",
            "How long a batch was pending before it was claimed",
            Unit::Seconds,
            self.wait.clone(),
        );
        registry.register("calls", "Calls on Valkey", self.calls.clone());
        registry.register("call_failures", "Calls that failed, by code", self.failures.clone());
        registry.register_with_unit(
            "call",
            "Duration of a call, without waits for work",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register(
            "registered",
            "Batches registered by this process",
            self.registered.clone(),
        );
        registry.register("claims", "Claims answered with work", self.claims.clone());
        registry.register("claimed", "Batches given under lease", self.claimed.clone());
        registry.register("settled", "Outcomes by what became of them", self.settled.clone());
        registry.register("stale", "Outcomes with an old fencing token", self.stale.clone());
        registry.register("waiting_claims", "Claims that wait for work", self.waiting.clone());
        registry.register(
            "listener_restarts",
            "Times that the connection which waits for wakes was made anew",
            self.listener_restarts.clone(),
        );
    }

    /// Takes what a script brought about, as it tells it: how many batches went into each
    /// state, how many were forgotten, and then how many had been ready for how long, in
    /// microseconds.
    pub(crate) fn told(&self, bytes: &[u8]) {
        // Nothing, or cut off: counted is what can be read.
        let mut reader = Reader(bytes);
        for state in State::ALL {
            match reader.u32() {
                Ok(0) => {}
                Ok(count) => {
                    let transitions = self.transitions.get_or_create(&[("state", state.as_str())]);
                    transitions.inc_by(u64::from(count));
                }
                Err(_) => return,
            }
        }
        self.purged.inc_by(reader.u32().map_or(0, u64::from));
        while let (Ok(count), Ok(micros)) = (reader.u32(), reader.f64()) {
            // A block has 64 batches at most.
            for _ in 0..count.min(64) {
                self.wait.observe(micros / 1e6);
            }
        }
    }

    pub(crate) fn registered(&self, registered: &[Registered]) {
        self.registered.inc_by(registered.iter().filter(|one| one.created).count() as u64);
    }

    pub(crate) fn claimed(&self, leases: usize) {
        if leases > 0 {
            self.claims.inc();
            self.claimed.inc_by(leases as u64);
        }
    }

    pub(crate) fn settled(&self, settled: &[Settled]) {
        for one in settled {
            match (one.verdict, one.state) {
                (Verdict::Applied, Some(state)) => {
                    self.settled.get_or_create(&[("state", state.as_str())]).inc();
                }
                (Verdict::Stale, _) => {
                    self.stale.inc();
                }
                _ => {}
            }
        }
    }

    pub(crate) fn wait(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    fn ended(&self, call: &'static str, error: Option<&Error>) {
        self.calls.get_or_create(&[("call", call)]).inc();
        if let Some(error) = error {
            let labels = [("call", call), ("code", error.code().as_str())];
            self.failures.get_or_create(&labels).inc();
        }
    }

    fn took(&self, call: &'static str, time: Duration) {
        self.duration.get_or_create(&[("call", call)]).observe(time.as_secs_f64());
    }
}

/// One claim that waits.
pub(crate) struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Shared {
    /// Counts a call that may wait for work.
    pub(crate) async fn counted<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let result = work.await;
        self.metrics.ended(call, result.as_ref().err());
        result
    }

    /// Counts a call and how long it takes.
    pub(crate) async fn timed<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = self.clock.elapsed();
        let result = self.counted(call, work).await;
        self.metrics.took(call, self.clock.elapsed().saturating_sub(began));
        result
    }
}
