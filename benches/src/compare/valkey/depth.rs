//! What many registered batches cost: memory for each, and time for a claim.

use serde_json::Value;

use super::server::Server;
use super::side::{OURS, SIDES, Side};
use super::{NS, Samples, Setup};
use crate::error::{Error, Result};
use crate::process::finish;
use crate::report::{Better, Case};
use crate::stats::percentile;

/// Batches where a claim is to be as fast as where there are few.
const MANY: u64 = 1_000_000;
const FEW: u64 = 1_000;
/// Batches of one `register`, and calls at once: those that are alike share what they
/// have in common where they come together, and few are too few for that.
const TOGETHER: [(&str, u64); 2] = [("n", 64), ("callers", 4)];
const ALONE: [(&str, u64); 2] = [("n", 4), ("callers", 1)];
/// Claims of one measurement, and measurements.
const CLAIMS: u64 = 200;
const MEASUREMENTS: u64 = 11;

/// Bytes of a batch at most.
const BYTES: f64 = 600.0;

/// Fills servers of their own.
pub(super) fn measure(setup: &Setup, samples: &mut Samples) -> Result<()> {
    let Some(side) = SIDES.iter().find(|side| side.name == OURS) else { return Ok(()) };
    for (how, calls) in [("together", TOGETHER), ("alone", ALONE)] {
        eprintln!("{} batches, {how}", setup.size(MANY, 2_000));
        let (mut many, mut few) = (Server::start()?, Server::start()?);
        let count = setup.size(MANY, 2_000);
        let used = fill(side, &mut many, count, calls)?;
        samples.add(format!("{how} bytes"), used / count as f64);
        fill(side, &mut few, FEW, calls)?;
        for n in NS {
            for measurement in 0..setup.size(MEASUREMENTS, 1) {
                let flags = [("--n", n), ("--part", measurement), ("--together", calls[0].1)];
                let took = turns(setup, side, [&mut many, &mut few], &flags)?;
                for (depth, took) in ["many", "few"].into_iter().zip(took) {
                    let median = percentile(&took, 50).unwrap_or_default();
                    samples.add(format!("{how} n{n} {depth}"), median / 1e3);
                }
            }
        }
    }
    Ok(())
}

/// Bytes that the server used for so many.
fn fill(side: &Side, server: &mut Server, count: u64, calls: [(&str, u64); 2]) -> Result<f64> {
    server.reset()?;
    let before = server.used_memory()?;
    let [(_, n), (_, callers)] = calls;
    let flags = [("--jobs", count), ("--n", n), ("--callers", callers)];
    let mut load = side.start(&["enqueue"], server.port(), &flags)?;
    finish(&mut load, &mut [server.process()])?;
    Ok(server.used_memory()? - before)
}

/// Microseconds of claims where there are many, and where there are few, in turns.
fn turns(
    setup: &Setup,
    side: &Side,
    [many, few]: [&mut Server; 2],
    flags: &[(&str, u64)],
) -> Result<[Vec<f64>; 2]> {
    let (port, other) = (many.port(), ("--other-port", u64::from(few.port())));
    let flags = [&[("--jobs", setup.size(CLAIMS, 5)), other], flags].concat();
    let mut load = side.start(&["turns"], port, &flags)?;
    let lines = finish(&mut load, &mut [many.process(), few.process()])?;
    let line = lines.first().map(|line| &line["took"]);
    let times = |at: usize| -> Option<Vec<f64>> {
        line?.get(at)?.as_array()?.iter().map(Value::as_f64).collect()
    };
    match (times(0), times(1)) {
        (Some(many), Some(few)) => Ok([many, few]),
        _ => Err(Error::Message(format!("turns told {lines:?}"))),
    }
}

/// By how many there are, and how they came.
pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for how in ["together", "alone"] {
        let bytes = samples.of(&format!("{how} bytes"));
        let unit = ("bytes", Better::Lower);
        cases.push(Case::target(format!("bytes_per_batch_{how}"), unit, bytes, BYTES)?);
        for n in NS {
            let of = |depth: &str| samples.of(&format!("{how} n{n} {depth}"));
            let few = ("1,000 batches", of("few"));
            let name = format!("claim_n{n}_of_million_{how}");
            cases.push(Case::against(name, ("ms", Better::Lower), of("many"), few)?);
        }
    }
    Ok(cases)
}
