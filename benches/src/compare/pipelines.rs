//! Whole pipelines against dora, and against Python processes that pipes join.
//!
//! Each side runs the same three stages, each a process: a source that sends one batch again
//! and again, a filter that keeps half of its rows, and a sink that counts. Rates are rows that
//! the source made, over the time from the first batch at the sink to the last: processes that
//! start are not in it, and are a case of their own. Ours is `sheafctl run` with the built-in
//! filter between two ends made with the SDK; everything is acknowledged, and nothing may be
//! lost. Of dora, what comes to the sink counts, which is not always all.

mod sides;

use serde_json::{Map, Value};

use self::sides::{Shape, Side, Told, Work};
use super::{Comparison, Outcome, Samples, Setup};
use crate::error::Result;
use crate::process::{python_version, temporary};
use crate::report::{Better, Case};
use crate::stats::percentile;

pub(super) const COMPARISON: Comparison =
    Comparison { name: "pipelines", peers: &["dora"], services: &[], run };

const ROWS_RATE: (&str, Better) = ("rows/s", Better::Higher);
const EVENT_RATE: (&str, Better) = ("events/s", Better::Higher);
const LATENCY: (&str, Better) = ("us", Better::Lower);
const TIME: (&str, Better) = ("ms", Better::Lower);

/// Rows of a batch.
const BATCH: u64 = 8_192;
/// Streams between source and sink.
const HOPS: f64 = 2.0;
const PACE_US: u64 = 1_000;
/// Components of the file that is validated.
const COMPONENTS: usize = 1_000;

/// Sinks that read one source.
const SINKS: usize = 3;
/// Sources that one sink reads.
const SOURCES: usize = 2;
/// Of what one sink has alone, what each of several has at least.
const SHARE: f64 = 0.8;

const DORA: &str = "dora";
const PIPE: &str = "pyarrow pipe";

fn run(setup: &Setup) -> Result<Outcome> {
    let mut samples = Samples::default();
    let mut lost = 0.0_f64;
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        // Who goes first changes.
        let mut sides = [Side::Ours, Side::Dora, Side::Pipe];
        sides.rotate_left((round as usize - 1) % 3);
        for side in sides {
            for (name, work) in works(setup, side) {
                let folder = temporary()?;
                let told = side.run(setup, folder.path(), &work)?;
                if side == Side::Dora {
                    lost = lost.max(1.0 - told.rows / work.expected_rows());
                }
                add(&mut samples, name, side, &work, &told);
            }
            if let Some(ms) = side.validate(setup, COMPONENTS)? {
                samples.add(format!("validate {}", side.name()), ms);
            }
        }
    }
    shapes(setup, &mut samples)?;
    let mut versions = Map::new();
    for package in ["dora-rs", "pyarrow"] {
        versions.insert(package.to_owned(), Value::from(python_version("dora", package)?));
    }
    Ok(Outcome { cases: cases(&samples)?, versions, notes: notes(lost) })
}

/// Ours alone, in shapes that the others are not run in.
fn shapes(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let paced = Work { batches: setup.size(2_000, 200), rows: BATCH, pace_us: PACE_US };
    let full = Work { batches: setup.size(6_000, 200), pace_us: 0, ..paced };
    let all =
        [("direct", Shape::Direct), ("out", Shape::FanOut(SINKS)), ("in", Shape::FanIn(SOURCES))];
    for round in 1..=setup.rounds {
        eprintln!("shapes: round {round} of {}", setup.rounds);
        for (name, shape) in all {
            for (load, work) in [("paced", &paced), ("full", &full)] {
                let folder = temporary()?;
                let told = shape.run(setup, folder.path(), work)?;
                // Of several sinks the slowest.
                let rates = told.iter().map(|told| told.rows / told.seconds);
                samples.add(format!("{name} {load}"), rates.fold(f64::INFINITY, f64::min));
            }
        }
    }
    Ok(())
}

/// What a side has to do. Slow ones get less of it, which takes as long.
fn works(setup: &Setup, side: Side) -> [(&'static str, Work); 3] {
    let events = match side {
        Side::Ours => setup.size(400_000, 4_000),
        Side::Pipe => setup.size(100_000, 4_000),
        Side::Dora => setup.size(20_000, 1_000),
    };
    [
        ("batches", Work { batches: setup.size(6_000, 200), rows: BATCH, pace_us: 0 }),
        ("events", Work { batches: events, rows: 1, pace_us: 0 }),
        ("paced", Work { batches: setup.size(3_000, 300), rows: 1, pace_us: PACE_US }),
    ]
}

fn add(samples: &mut Samples, name: &str, side: Side, work: &Work, told: &Told) {
    let key = |what: &str| format!("{what} {}", side.name());
    if work.pace_us == 0 {
        let rows = work.rows as f64 * work.batches as f64 * told.rows / work.expected_rows();
        samples.add(key(name), rows / told.seconds);
        if name == "batches" {
            samples.add(key("start"), told.start_ms);
        }
        return;
    }
    for (what, percent) in [("p50", 50), ("p99", 99)] {
        if let Some(wait) = percentile(&told.waits_us, percent) {
            samples.add(key(what), wait / HOPS);
        }
    }
}

fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    let peers = [(Side::Dora, DORA, "dora"), (Side::Pipe, PIPE, "pyarrow_pipe")];
    let groups = [
        ("linear_rows", "batches", ROWS_RATE, 5e6),
        ("linear_events", "events", EVENT_RATE, 1e5),
        ("hop_p50", "p50", LATENCY, 300.0),
        ("hop_p99", "p99", LATENCY, 2_000.0),
        ("start", "start", TIME, 300.0),
        ("validate_1000", "validate", TIME, 50.0),
    ];
    for (case, key, unit, target) in groups {
        let of = |side: Side| samples.of(&format!("{key} {}", side.name()));
        cases.push(Case::target(case, unit, of(Side::Ours), target)?);
        for (side, name, suffix) in peers {
            if !of(side).is_empty() {
                let name_of = format!("{case}_vs_{suffix}");
                cases.push(Case::against(name_of, unit, of(Side::Ours), (name, of(side)))?);
            }
        }
    }
    cases.extend(shape_cases(samples)?);
    Ok(cases)
}

fn shape_cases(samples: &Samples) -> Result<Vec<Case>> {
    let of = |key: &str| samples.of(key);
    let times =
        |key: &str, factor: f64| -> Vec<f64> { of(key).iter().map(|rate| rate * factor).collect() };
    let mut cases = Vec::new();
    for (load, suffix) in [("paced", ""), ("full", "_full")] {
        let direct = format!("direct {load}");
        let out = of(&format!("out {load}"));
        let name = format!("fan_out_{SINKS}{suffix}_per_sink");
        cases.push(Case::against(
            name,
            ROWS_RATE,
            out,
            ("0.8 of one sink", &times(&direct, SHARE)),
        )?);
        let together = of(&format!("in {load}"));
        let name = format!("fan_in_{SOURCES}{suffix}");
        let alone = times(&direct, SOURCES as f64);
        cases.push(Case::against(name, ROWS_RATE, together, ("its sources alone", &alone))?);
    }
    Ok(cases)
}

fn notes(lost: f64) -> Vec<(&'static str, String)> {
    vec![
        (
            "stages",
            format!(
                "three processes a side: a source that sends one batch of two int64 columns, \
                 {BATCH} rows or 1, a filter that keeps half (all where it is 1), a sink that \
                 counts; rates count the rows of the source"
            ),
        ),
        (
            "dora",
            format!(
                "nodes in Python, `queue_policy: backpressure` with a queue of 1,000,000 on each \
                 input; at the most {:.1} % of a run's rows did not come to its sink, and its \
                 rate counts the others",
                lost.max(0.0) * 100.0
            ),
        ),
        ("hop", format!("a row each {PACE_US} us; from source to sink, divided by {HOPS}")),
        (
            "shapes",
            format!(
                "fan_out: a source and {SINKS} sinks, the rate of the slowest of them; fan_in: \
                 {SOURCES} sources and a sink; against one source and one sink; a batch of \
                 {BATCH} rows each {PACE_US} us, and `full` as fast as it goes, where all \
                 processes share the cores"
            ),
        ),
        ("start", "from the start of the command to the first batch at the sink".to_owned()),
    ]
}
