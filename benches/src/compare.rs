//! The comparisons: one file each, and one line in [`ALL`].

mod coordinator;
mod exchange;
mod flight;
mod kafka;
mod nodes;
mod pipelines;
mod raft;
mod valkey;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::conditions;
use crate::error::{Error, Result};
use crate::report::{Case, Report};

/// How often every case is measured, unless asked otherwise.
pub(crate) const ROUNDS: u32 = 5;

/// One comparison.
struct Comparison {
    name: &'static str,
    /// Folders below `benches/peers` to install.
    peers: &'static [&'static str],
    /// What `cargo xtask services` has to provide.
    services: &'static [&'static str],
    run: fn(&Setup) -> Result<Outcome>,
}

const ALL: [Comparison; 7] = [
    coordinator::COMPARISON,
    exchange::COMPARISON,
    flight::COMPARISON,
    kafka::COMPARISON,
    pipelines::COMPARISON,
    raft::COMPARISON,
    valkey::COMPARISON,
];

/// What a comparison works with.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The binary `sheaf`; of Kafka, `sheaf-gateway`; of pipelines, `sheafctl`.
    pub(crate) sheaf: PathBuf,
    pub(crate) rounds: u32,
    /// Tiny sizes.
    pub(crate) quick: bool,
}

impl Setup {
    /// One of two sizes.
    pub(crate) fn size(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

/// What a comparison found, and what has to be said about it.
pub(crate) struct Outcome {
    pub(crate) cases: Vec<Case>,
    /// Names and versions of what took part.
    pub(crate) versions: Map<String, Value>,
    /// Conditions of these figures, by subject.
    pub(crate) notes: Vec<(&'static str, String)>,
}

/// Names and needs, for who installs the peers.
pub(crate) fn list() -> Value {
    let entries = ALL.iter().map(
        |entry| json!({ "name": entry.name, "peers": entry.peers, "services": entry.services }),
    );
    Value::Array(entries.collect())
}

/// Runs one comparison.
pub(crate) fn run(name: &str, rounds: u32, quick: bool, sheaf: PathBuf) -> Result<Report> {
    let Some(comparison) = ALL.iter().find(|entry| entry.name == name) else {
        let known: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
        let known = known.join(", ");
        return Err(Error::Message(format!(
            "no comparison is called `{name}`: choose from {known}"
        )));
    };
    let version = conditions::output(&sheaf.to_string_lossy(), &["--version"]);
    let mut conditions = conditions::here(rounds, quick);
    let outcome = (comparison.run)(&Setup { sheaf, rounds, quick })?;
    conditions.insert("load_after".to_owned(), conditions::load_average().into());
    let mut versions = outcome.versions;
    let version = version.rsplit(' ').next().unwrap_or_default().to_owned();
    versions.insert("sheaf".to_owned(), version.into());
    conditions.insert("versions".to_owned(), Value::Object(versions));
    for (subject, note) in outcome.notes {
        conditions.insert(subject.to_owned(), note.into());
    }
    Ok(Report { bench: name.to_owned(), conditions, cases: outcome.cases })
}

/// Measurements by name, in the order of the rounds.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<String, Vec<f64>>);

impl Samples {
    pub(crate) fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.entry(name.into()).or_default().push(value);
    }

    /// Empty where there are none: a case made of it is an error.
    pub(crate) fn of(&self, name: &str) -> &[f64] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}
