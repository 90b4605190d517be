//! Puts and linearizable gets of clusters of three.

use super::clusters::{Cluster, Requests, Side};
use super::echo::add;
use super::{CPU, TIME, milliseconds};
use crate::compare::{Samples, Setup};
use crate::error::Result;
use crate::report::{Better, Case};

const RATE: (&str, Better) = ("requests/s", Better::Higher);

/// Linearizable reads of a cluster in a second.
const READS: f64 = 50_000.0;

/// The election timeout of ours.
const ELECTION_SECONDS: f64 = 1.5;

const fn puts(clients: u64, bytes: u64) -> Requests {
    Requests { puts: true, clients, bytes }
}

const fn gets(clients: u64) -> Requests {
    Requests { puts: false, clients, bytes: 256 }
}

/// With a log that is synced.
const SYNCED: [(&str, Requests); 7] = [
    ("proposals_c1", puts(1, 256)),
    ("proposals_c64", puts(64, 256)),
    ("proposals_c1024", puts(1_024, 256)),
    ("proposals_c64_1k", puts(64, 1_024)),
    ("reads_c1", gets(1)),
    ("reads_c64", gets(64)),
    ("reads_c1024", gets(1_024)),
];

/// With one in memory.
const UNSYNCED: [(&str, Requests); 3] = [
    ("proposals_c1_unsynced", puts(1, 256)),
    ("proposals_c64_unsynced", puts(64, 256)),
    ("proposals_c1024_unsynced", puts(1_024, 256)),
];

const PEERS: [(Side, &str); 2] = [(Side::Etcd, "etcd"), (Side::Openraft, "openraft, unary tonic")];

pub(super) fn note() -> String {
    "three processes of each side and one with its clients, c of them, over one connection to the \
     leader: a stream of ours, unary calls of etcd and of openraft; values of 256 bytes, or 1 KiB; \
     failover: kill -9 of the leader while one client puts, from its last put before to its \
     first one after, in election timeouts of 1.5 s; unsynced: all data of ours and of etcd in memory (tmpfs), and no file at all of openraft; CPU \
     is of all four processes"
        .to_owned()
}

pub(super) fn turn(setup: &Setup, round: u32, samples: &mut Samples) -> Result<()> {
    let seconds = milliseconds(setup) as f64 / 1e3;
    let mut sides = Side::ALL;
    // Who goes first changes.
    if round.is_multiple_of(2) {
        sides.reverse();
    }
    let mut cluster = Cluster::start(Side::Ours, true)?;
    samples.add("failover", cluster.fail_over()? / ELECTION_SECONDS);
    drop(cluster);
    for (is_synced, cases) in [(true, &SYNCED[..]), (false, &UNSYNCED)] {
        for side in sides {
            let mut cluster = Cluster::start(side, is_synced)?;
            for (name, requests) in cases {
                let told = cluster.measure(*requests, seconds)?;
                add(samples, &format!("{name} {}", side.name()), &told)?;
            }
        }
    }
    Ok(())
}

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, _) in SYNCED.iter().chain(&UNSYNCED) {
        for (peer, title) in PEERS {
            let units = [
                ("", RATE, ""),
                ("_cpu", CPU, " cpu"),
                ("_p50", TIME, " p50"),
                ("_p99", TIME, " p99"),
            ];
            for (what, unit, tail) in units {
                let of = |side: Side| samples.of(&format!("{name} {}{tail}", side.name()));
                let case = format!("{name}{what}_vs_{}", peer.name());
                cases.push(Case::against(case, unit, of(Side::Ours), (title, of(peer)))?);
            }
        }
    }
    let times = ("election timeouts", Better::Lower);
    cases.push(Case::target("failover", times, samples.of("failover"), 2.0)?);
    cases.push(Case::target("reads_c1024", RATE, samples.of("reads_c1024 ours"), READS)?);
    Ok(cases)
}
