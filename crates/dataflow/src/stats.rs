//! What a component tells of itself: `/stats` as JSON, `/metrics` for Prometheus.

mod collect;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use sheaf_pipeline::registry::{PortSchema, Totals, port_schema};

use crate::assignment::Assignment;
use crate::inlet::Place;
use crate::outlet::{Edge, Stream};
use crate::resident::resident_bytes;

/// How far a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It registers and makes itself ready.
    Starting = 0,
    /// Batches flow.
    Running = 1,
    /// It has deregistered.
    Leaving = 2,
}

/// Looks at all streams when it is asked.
pub(crate) struct Stats {
    pipeline: String,
    run: u64,
    instance: String,
    role: &'static str,
    phase: AtomicU8,
    edges: Vec<Arc<Edge>>,
    places: Vec<Arc<Place>>,
    /// What the component counts.
    counters: Mutex<Vec<(&'static str, u64)>>,
    /// Calls of the component that failed and were tried again.
    retried: AtomicU64,
    /// What fails just now.
    trouble: Mutex<Option<String>>,
}

impl Stats {
    pub(crate) fn new(assignment: &Assignment, edges: &[Arc<Edge>], places: &[Arc<Place>]) -> Self {
        Stats {
            pipeline: assignment.pipeline.clone(),
            run: assignment.run,
            instance: assignment.instance.clone(),
            role: assignment.role.as_str(),
            phase: AtomicU8::new(Phase::Starting as u8),
            edges: edges.to_vec(),
            places: places.to_vec(),
            counters: Mutex::default(),
            retried: AtomicU64::new(0),
            trouble: Mutex::default(),
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// What the component has counted.
    pub(crate) fn set_counters(&self, counters: Vec<(&'static str, u64)>) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }

    /// A call failed for this reason and is tried again; `None` when it works.
    pub(crate) fn retries(&self, why: Option<String>) {
        if why.is_some() {
            self.retried.fetch_add(1, Ordering::Relaxed);
        }
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn state(&self) -> &'static str {
        match self.phase.load(Ordering::Relaxed) {
            0 => "starting",
            1 => "running",
            _ => "leaving",
        }
    }

    /// What batches of its edges look like, as far as any have come by: in, and out.
    pub(crate) fn ports(&self) -> (Vec<PortSchema>, Vec<PortSchema>) {
        let mut inputs: Vec<PortSchema> = Vec::new();
        for place in &self.places {
            let is_there = inputs.iter().any(|one| *one.port == *place.edge);
            if let Some(schema) = place.schema.get().filter(|_| !is_there) {
                inputs.push(port_schema(&place.edge, schema));
            }
        }
        let outputs = self.edges.iter();
        let outputs = outputs.filter_map(|edge| Some(port_schema(&edge.id, edge.schema.get()?)));
        (inputs, outputs.collect())
    }

    /// What went through it.
    pub(crate) fn totals(&self) -> Totals {
        let places = || self.places.iter();
        let received = |of: fn(&Place) -> &AtomicU64| places().map(|one| get(of(one))).sum();
        let edges = || self.edges.iter();
        // Each reader gets its own: what was made is what the one that got most has.
        let sent = |of: fn(&Stream) -> &AtomicU64| {
            let sums = edges().map(|edge| edge.streams.iter().map(|one| get(of(one))).sum::<u64>());
            sums.max()
        };
        let has_inputs = !self.places.is_empty();
        let mut failed: BTreeMap<&str, u64> = BTreeMap::new();
        for place in places() {
            // Each stream of an edge tells of the whole queue.
            let queue = place.queue.as_ref().map_or(0, |queue| queue.counts().failed);
            let most = failed.entry(&*place.edge).or_default();
            *most = queue.max(*most);
        }
        Totals {
            rows_in: has_inputs.then(|| received(|place| &place.counts.rows)),
            batches_in: has_inputs.then(|| received(|place| &place.counts.batches)),
            rows_out: sent(|stream| &stream.counts.rows),
            batches_out: sent(|stream| &stream.counts.batches),
            failed_batches: failed.values().sum(),
        }
    }

    /// Everything, as JSON.
    pub(crate) fn json(&self) -> String {
        let outputs = self.edges.iter().map(|edge| output(edge)).collect::<Vec<Value>>();
        let inputs = self.places.iter().map(|place| input(place)).collect::<Vec<Value>>();
        json!({
            "pipeline": self.pipeline,
            "run": self.run,
            "instance": self.instance,
            "role": self.role,
            "state": self.state(),
            "residentBytes": resident_bytes(),
            "retries": get(&self.retried),
            "trouble": self.trouble(),
            "inputs": inputs,
            "outputs": outputs,
            "counters": self.counters().into_iter().collect::<BTreeMap<_, _>>(),
        })
        .to_string()
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn output(edge: &Edge) -> Value {
    let streams = edge.streams.iter().map(|stream| {
        let (now, counts) = (stream.snapshot(), &stream.counts);
        json!({
            "from": stream.options.from,
            "to": stream.options.to,
            "connected": now.is_connected,
            "finished": now.is_finished,
            "batches": get(&counts.batches),
            "rows": get(&counts.rows),
            "bytes": get(&counts.bytes),
            "credits": now.credits,
            "waiting": now.waiting,
            "unacknowledged": now.unacknowledged,
            "memoryBytes": now.memory_bytes,
            "diskBytes": now.disk_bytes,
            "spilledBytes": get(&counts.spilled_bytes),
            "dropped": get(&counts.dropped),
            "connections": get(&counts.connections),
            "lastSequence": now.last,
            "acknowledged": now.acknowledged,
            "durable": stream.options.queue.is_some(),
            "failed": now.failed,
        })
    });
    json!({
        "edge": &*edge.id,
        "taps": edge.tap.watchers(),
        "missedByTaps": get(&edge.tap.missed),
        "streams": streams.collect::<Vec<Value>>(),
    })
}

fn input(place: &Place) -> Value {
    let (now, counts) = (place.snapshot(), &place.counts);
    let queue = place.queue.as_ref().map(|queue| queue.counts()).unwrap_or_default();
    json!({
        "edge": &*place.edge,
        "from": place.from_instance,
        "to": place.to,
        "connected": now.is_connected,
        "ended": now.has_ended,
        "batches": get(&counts.batches),
        "rows": get(&counts.rows),
        "bytes": get(&counts.bytes),
        "credits": now.credits,
        "waiting": now.waiting,
        "connections": get(&counts.connections),
        "lastSequence": now.last,
        "acknowledged": now.acknowledged,
        "durable": place.queue.is_some(),
        "pending": queue.pending,
        "processing": queue.processing,
        "failed": queue.failed,
    })
}
