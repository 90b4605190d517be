//! A consumer that adds up every column: of shared memory, and of what comes
//! over the wire. It is the same program of pyarrow on all sides.

use serde_json::json;

use super::{BY_PYARROW, Better, Case, RATE, Result, Samples, Setup, Side};

/// Integers only: a sum reads every byte.
const SHAPE: &str = "mib4-ints";

/// What is read, whether as shared memory, and how it is kept.
const SCANS: [(&str, bool, &str); 3] =
    [("scan-disk", true, "disk"), ("scan-memory", true, "memory"), ("scan-wire", false, "memory")];

/// Who reads how: ours in all ways, pyarrow from its own server.
fn of(side: &Side) -> &'static [(&'static str, bool, &'static str)] {
    match side.name {
        BY_PYARROW => &SCANS,
        "pyarrow" => &SCANS[2..],
        _ => &[],
    }
}

pub(super) fn fill(setup: &Setup, sides: &mut [Side]) -> Result<()> {
    for side in sides {
        for (name, _, durability) in of(side) {
            let bytes = setup.size(256, 4) << 20;
            side.command(&json!({ "do": "make", "rows": SHAPE, "bytes": bytes }))?;
            side.command(&json!({ "do": "put", "name": name, "durability": durability }))?;
        }
    }
    Ok(())
}

pub(super) fn round(sides: &mut [Side], samples: &mut Samples) -> Result<()> {
    for (name, near, _) in SCANS {
        for side in sides.iter_mut() {
            if of(side).iter().any(|(known, ..)| *known == name) {
                let scan = json!({ "do": "scan", "name": format!("{name}.0"), "near": near });
                side.measure(name, &scan, samples)?;
            }
        }
    }
    Ok(())
}

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let cpu = ("CPU-s/GB", Better::Lower);
    let peer = |tail: &str| samples.of(&format!("scan-wire pyarrow{tail}"));
    let mut cases = Vec::new();
    for (name, key) in [
        ("shm_scan", "scan-disk"),
        ("shm_scan_of_memory", "scan-memory"),
        ("doget_scan", "scan-wire"),
    ] {
        for (unit, what, tail) in [(RATE, "", ""), (cpu, "_cpu", " cpu")] {
            let ours = samples.of(&format!("{key} {BY_PYARROW}{tail}"));
            let name = format!("{name}{what}_vs_pyarrow");
            cases.push(Case::against(&name, unit, ours, ("pyarrow", peer(tail)))?);
        }
    }
    Ok(cases)
}
