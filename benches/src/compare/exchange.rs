//! The partition kernel against DataFusion's and pyarrow's.
//!
//! Each side partitions the same batches of 8,192 rows by the hash of one
//! column, on one thread of a process of its own. Ours gives messages in the
//! layout of the wire, DataFusion record batches of 8,192 rows, as its
//! `RepartitionExec` does, and those as messages where the case says encoded, as
//! large as ours where it says same size;
//! pyarrow sorts rows by partition, cuts the batch, and puts cuts together.

mod mesh;

use serde_json::{Map, Value};
use sheaf_testkit::ProcessCommand;

use super::{Comparison, Outcome, Samples, Setup};
use crate::error::Result;
use crate::process::{built, finish, load, number, pinned, python, python_version};
use crate::report::{Better, Case};

pub(super) const COMPARISON: Comparison =
    Comparison { name: "exchange", peers: &["datafusion", "pyarrow"], services: &[], run };

const TIME: (&str, Better) = ("ns/row", Better::Lower);

/// What is measured: shape of the rows and number of partitions.
const CASES: [(&str, u64); 8] = [
    ("ints", 2),
    ("ints", 16),
    ("ints", 64),
    ("ints", 256),
    ("ints", 1_024),
    ("mixed", 16),
    ("mixed", 64),
    ("mixed", 256),
];

/// DataFusion's ways: what is added to a case's name.
const WAYS: [(&str, &str); 4] = [
    ("coalesce", ""),
    ("encode", "_encoded"),
    ("same", "_encoded_same_size"),
    ("take", "_only_taken"),
];

/// Ours with messages of as many rows as DataFusion's batches have.
const SMALL: &str = "ours of 8192 rows";

fn run(setup: &Setup) -> Result<Outcome> {
    let mut samples = Samples::default();
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        for case in CASES {
            turn(setup, case, &mut samples)?;
        }
        mesh::turn(setup, round, &mut samples)?;
    }
    let mut versions = Map::new();
    let datafusion =
        pinned("datafusion/Cargo.toml", "\ndatafusion-physical-plan = { version = \"=")?;
    versions.insert("datafusion".to_owned(), Value::from(datafusion));
    versions.insert("pyarrow".to_owned(), python_version("pyarrow", "pyarrow")?.into());
    let rows = "batches of 8,192 rows: ints are four columns of 64 bits, mixed are 64 bits, \
                32 bits with nulls, floats, and texts of 4 to 27 bytes; by the hash of the first";
    let result = "ours: messages of up to 4 MiB in the layout of the wire; datafusion: batches of \
                  8,192 rows (encoded: as messages; same_size: those as large as ours; only_taken: a batch for each partition of \
                  each batch); same_rows: ours with messages of 8,192 rows too; pyarrow: the same as datafusion";
    let notes =
        vec![("rows", rows.to_owned()), ("result", result.to_owned()), ("mesh", mesh::note())];
    let cases = [cases(&samples)?, mesh::cases(&samples)?].concat();
    Ok(Outcome { cases, versions, notes })
}

fn key(side: &str, (shape, partitions): (&str, u64)) -> String {
    format!("{side} {shape} {partitions}")
}

/// All sides of one case, one after the other.
fn turn(setup: &Setup, case: (&str, u64), samples: &mut Samples) -> Result<()> {
    let (shape, partitions) = case;
    let (partitions, batches) = (partitions.to_string(), setup.size(1_024, 256));
    let fewer = (batches / 8).max(1).to_string();
    let batches = batches.to_string();
    let arguments = [shape, &partitions, &batches];
    measure("ours", case, load(&["partition"])?.args(arguments), samples)?;
    let small = load(&["partition"])?.args(arguments).args(["--chunk-rows", "8192"]);
    measure(SMALL, case, small, samples)?;
    for (way, _) in WAYS {
        let command = built("datafusion", "datafusion")?.args([way]).args(arguments);
        measure(way, case, command, samples)?;
    }
    let command = python("pyarrow", "partition.py")?.args([shape, &partitions, &fewer]);
    measure("pyarrow", case, command, samples)
}

fn measure(
    side: &str,
    case: (&str, u64),
    command: ProcessCommand,
    samples: &mut Samples,
) -> Result<()> {
    let mut process = command.spawn()?;
    for told in finish(&mut process, &mut [])? {
        let per_row = 1e9 / number(&told, "rows")?;
        let name = key(side, case);
        samples.add(format!("{name} cpu"), number(&told, "cpu_seconds")? * per_row);
        samples.add(name, number(&told, "seconds")? * per_row);
    }
    Ok(())
}

fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for case in CASES {
        let (shape, partitions) = case;
        let shape = if shape == "ints" { String::new() } else { format!("_{shape}") };
        let against_ways = WAYS.map(|(way, suffix)| {
            ("ours", way, format!("vs_datafusion{suffix}"), format!("datafusion {way}"))
        });
        let rest = [
            (SMALL, "coalesce", "same_rows_vs_datafusion", "datafusion coalesce"),
            (SMALL, "encode", "same_rows_vs_datafusion_encoded", "datafusion encode"),
            ("ours", "pyarrow", "vs_pyarrow", "pyarrow"),
        ];
        let rest = rest.map(|(own, side, against, peer)| (own, side, against.into(), peer.into()));
        for (own, side, against, peer) in against_ways.into_iter().chain(rest) {
            let (ours, its) = (key(own, case), key(side, case));
            for (figure, tail) in [("", ""), ("_cpu", " cpu")] {
                let name = format!("kernel_p{partitions}{shape}{figure}_{against}");
                let mine = format!("{ours}{tail}");
                let theirs = samples.of(&format!("{its}{tail}")).to_vec();
                cases.push(Case::against(name, TIME, samples.of(&mine), (&peer, &theirs))?);
            }
        }
    }
    Ok(cases)
}
