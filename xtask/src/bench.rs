//! Benchmarks: comparisons with peers, and criterion.

mod criterion;

use std::{fs, path::PathBuf, process::Command};

use clap::Args;
use serde_json::Value;

use crate::{
    error::{Error, Result},
    process, services,
    workspace::Workspace,
};

const PACKAGE: &str = "sheaf-bench";

/// Which benchmark, and how.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A comparison (coordinator, exchange, flight, kafka, pipelines, raft, valkey), else a bench of criterion
    /// (engine, exchange, retry, store); without a name, all of criterion's.
    name: Option<String>,
    /// Print the results as one line of JSON at the end.
    #[arg(long)]
    json: bool,
    /// How often every case is measured on every side (comparisons only).
    #[arg(long)]
    rounds: Option<u32>,
    /// One round of tiny sizes: shows that it runs (comparisons only).
    #[arg(long)]
    quick: bool,
    /// Put the results into benches/RESULTS.md (comparisons only).
    #[arg(long, conflicts_with = "quick")]
    record: bool,
}

/// Runs one comparison with its peers, which are installed before, or
/// criterion. With `--json`, the last line printed is
/// `{"bench","conditions","cases":{CASE:{"ours":{"min","median","max"},"peer":{…},"peer_name","unit","ratio"}}}`;
/// criterion has no peers, and its cases only "ours" and "unit".
///
/// # Errors
///
/// Fails when there is no such benchmark, a peer cannot be installed, or a
/// server or load fails.
pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let Some(name) = options.name.as_deref() else {
        refuse_comparison_options(options)?;
        return criterion::run(workspace, None, options.json);
    };
    let criterion_only = workspace.targets(PACKAGE, "bench").iter().any(|bench| bench == name)
        && !workspace.path(format!("benches/src/compare/{name}.rs")).exists();
    if criterion_only {
        refuse_comparison_options(options)?;
        return criterion::run(workspace, Some(name), options.json);
    }
    compare(workspace, name, options)
}

fn refuse_comparison_options(options: &Options) -> Result<()> {
    if options.rounds.is_some() || options.quick || options.record {
        return Err(Error::Message(
            "--rounds, --quick and --record are for comparisons; criterion has none of them".into(),
        ));
    }
    Ok(())
}

fn compare(workspace: &Workspace, name: &str, options: &Options) -> Result<()> {
    let programs = Programs::build(workspace, name)?;
    let list = process::capture(Command::new(&programs.bench).arg("list"))?;
    let list: Value = serde_json::from_str(&list)
        .map_err(|source| Error::Json { what: "`sheaf-bench list`".into(), source })?;
    let needs = needs(&list, name)?;
    if !needs.services.is_empty() {
        services::run(workspace, &needs.services)?;
    }
    for peer in &needs.peers {
        services::peer(workspace, peer)?;
    }
    // All data on the disk of the target directory, whatever /tmp is.
    let temporary = workspace.target.join("bench-data");
    fs::create_dir_all(&temporary).map_err(Error::io("create", &temporary))?;
    let mut command = Command::new(&programs.bench);
    command
        .args(["compare", name, "--sheaf"])
        .arg(&programs.server)
        .env("SHEAF_SERVICES_DIR", workspace.services())
        .env("TMPDIR", &temporary);
    if let Some(rounds) = options.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    command.args(options.quick.then_some("--quick"));
    command.args(options.json.then_some("--json"));
    if options.record {
        command.arg("--record").arg(workspace.path("benches/RESULTS.md"));
    }
    process::run(&mut command)
}

/// What is measured and what measures, as users build it.
struct Programs {
    server: PathBuf,
    bench: PathBuf,
}

impl Programs {
    fn build(workspace: &Workspace, name: &str) -> Result<Self> {
        let mut command = workspace.cargo();
        command.args(["build", "--release", "--locked", "--bins", "-p", PACKAGE]);
        // Of librdkafka only those know who measure Kafka.
        let server = if name == "kafka" {
            command.args(["-p", "sheaf-gateway", "--features", "sheaf-bench/kafka"]);
            "sheaf-gateway"
        } else if name == "pipelines" {
            command.args(["-p", "sheafctl", "-p", "sheaf-component"]);
            "sheafctl"
        } else {
            command.args(["-p", "sheaf-cli"]);
            "sheaf"
        };
        process::run(&mut command)?;
        let program = |name| workspace.target.join("release").join(name);
        Ok(Programs { server: program(server), bench: program(PACKAGE) })
    }
}

/// What a comparison has to find installed.
#[derive(Debug, PartialEq, Eq)]
struct Needs {
    peers: Vec<String>,
    services: Vec<String>,
}

fn needs(list: &Value, name: &str) -> Result<Needs> {
    let entries = list.as_array().map_or(&[][..], Vec::as_slice);
    let Some(entry) = entries.iter().find(|entry| entry["name"] == name) else {
        let known: Vec<&str> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
        return Err(Error::Message(format!(
            "no benchmark is called `{name}`: comparisons are {}; see `benches/benches` for \
             those of criterion",
            known.join(", ")
        )));
    };
    let names = |key: &str| {
        let all = entry[key].as_array().map_or(&[][..], Vec::as_slice);
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Ok(Needs { peers: names("peers"), services: names("services") })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Needs, needs};

    #[test]
    fn a_comparison_says_what_it_needs() {
        let list = json!([
            { "name": "coordinator", "peers": ["taskiq"], "services": ["valkey"] },
            { "name": "flight", "peers": ["pyarrow"], "services": [] },
        ]);
        let found = needs(&list, "coordinator").unwrap();
        assert_eq!(found, Needs { peers: vec!["taskiq".into()], services: vec!["valkey".into()] });
        let error = needs(&list, "nonsense").unwrap_err().to_string();
        assert!(error.contains("`nonsense`") && error.contains("coordinator, flight"), "{error}");
    }
}
