//! The table: ours against the best peer, against targets, and against each.

use super::side::{OURS, Side};
use super::{LEASE, NS, Samples, key};
use crate::error::{Error, Result};
use crate::report::{Better, Case};
use crate::stats::Summary;

const JOBS: (&str, Better) = ("jobs/s", Better::Higher);
const SERVER: (&str, Better) = ("us/job", Better::Lower);
const TRIPS: (&str, Better) = ("reads/job", Better::Lower);
const TIME: (&str, Better) = ("ms", Better::Lower);
const RECOVERY: (&str, Better) = ("s", Better::Lower);

/// Microseconds of server time for a job at N = 64.
const SERVER_US: f64 = 25.0;
/// Milliseconds until an idle worker has a job.
const PICK_UP: [(u32, f64); 2] = [(50, 1.0), (99, 10.0)];
/// Seconds that a dead worker's job may take beyond its lease.
const BEYOND_LEASE: f64 = 1.0;

pub(super) fn cases(samples: &Samples, sides: &[&Side]) -> Result<Vec<Case>> {
    let peers: Vec<&Side> = sides.iter().copied().filter(|side| side.name != OURS).collect();
    let ours = |n, what: &str| samples.of(&key(OURS, n, what));
    let mut cases = Vec::new();
    for n in NS {
        let best = best(samples, &peers, n)?;
        let rates = samples.of(&key(best, n, "both"));
        cases.push(Case::against(
            format!("n{n}_vs_best_peer"),
            JOBS,
            ours(n, "both"),
            (best, rates),
        )?);
    }
    cases.push(Case::target("server_us_n64", SERVER, ours(64, "server us"), SERVER_US)?);
    for (percent, target) in PICK_UP {
        let times = samples.of(&format!("{OURS} pickup p{percent}"));
        cases.push(Case::target(format!("pickup_p{percent}"), TIME, times, target)?);
    }
    let recovery = samples.of(&format!("{OURS} recovery"));
    let target = LEASE.as_secs_f64() + BEYOND_LEASE;
    cases.push(Case::target("recovery", RECOVERY, recovery, target)?);
    for peer in peers {
        against(samples, peer, &mut cases)?;
    }
    Ok(cases)
}

/// The peer with the best median of both phases.
fn best(samples: &Samples, peers: &[&Side], n: u64) -> Result<&'static str> {
    let median = |peer: &Side| {
        let summary = Summary::of(samples.of(&key(peer.name, n, "both")))?;
        Some((summary.median, peer.name))
    };
    let found = peers.iter().filter_map(|peer| median(peer));
    found.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name).ok_or_else(|| {
        Error::Message("no peer is installed: `cargo xtask bench valkey` does that".into())
    })
}

fn against(samples: &Samples, peer: &Side, cases: &mut Vec<Case>) -> Result<()> {
    let name = peer.name;
    let mut add = |case: String, unit, ours: &str, theirs: &str| -> Result<()> {
        let peer = (name, samples.of(theirs));
        cases.push(Case::against(case, unit, samples.of(ours), peer)?);
        Ok(())
    };
    for n in NS {
        for (what, prefix, unit) in [
            ("both", "", JOBS),
            ("enqueue", "enqueue_", JOBS),
            ("process", "process_", JOBS),
            ("server us", "server_us_", SERVER),
            ("round trips", "round_trips_", TRIPS),
        ] {
            let case = format!("{prefix}n{n}_vs_{name}");
            add(case, unit, &key(OURS, n, what), &key(name, n, what))?;
        }
    }
    for (percent, _) in PICK_UP {
        let of = |side: &str| format!("{side} pickup p{percent}");
        add(format!("pickup_p{percent}_vs_{name}"), TIME, &of(OURS), &of(name))?;
    }
    if peer.recovers {
        let of = |side: &str| format!("{side} recovery");
        add(format!("recovery_vs_{name}"), RECOVERY, &of(OURS), &of(name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::side::SIDES;
    use super::{Samples, Side, best, cases, key};

    #[test]
    fn the_best_peer_is_found_for_each_n() {
        let mut samples = Samples::default();
        for (name, n, rate) in
            [("bullmq", 1, 9.0), ("taskiq", 1, 5.0), ("bullmq", 64, 2.0), ("taskiq", 64, 3.0)]
        {
            samples.add(key(name, n, "both"), rate);
        }
        let sides: Vec<&Side> = SIDES.iter().collect();
        assert_eq!(best(&samples, &sides, 1).unwrap(), "bullmq");
        assert_eq!(best(&samples, &sides, 64).unwrap(), "taskiq");
        assert!(best(&Samples::default(), &sides, 1).is_err());
    }

    #[test]
    fn every_peer_has_its_cases_and_none_against_itself() {
        let mut samples = Samples::default();
        for side in &SIDES {
            for n in [1, 64] {
                for what in ["both", "enqueue", "process", "server us", "round trips"] {
                    samples.add(key(side.name, n, what), 2.0);
                }
            }
            for what in ["pickup p50", "pickup p99", "recovery"] {
                samples.add(format!("{} {what}", side.name), 1.0);
            }
        }
        let sides: Vec<&Side> = SIDES.iter().collect();
        let cases = cases(&samples, &sides).unwrap();
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        for name in ["n1_vs_best_peer", "n64_vs_bullmq", "server_us_n64", "pickup_p50"] {
            assert!(names.contains(&name), "no {name} in {names:?}");
        }
        assert!(names.contains(&"recovery_vs_bullmq") && !names.contains(&"recovery_vs_taskiq"));
        assert!(!names.iter().any(|name| name.ends_with("ours")), "{names:?}");
    }
}
