//! `examples/operations`: what is written there is true of the binary.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use sheaf_flight::{CallOptions, ChannelPool, ClientConfig};
use sheaf_retry::SystemClock;
use sheaf_testkit::{Ready, TempDir};

use crate::doctor::Finding;
use crate::harness::{PATIENCE, Server, get, serve};

fn folder() -> PathBuf {
    sheaf_testkit::workspace_root().join("examples/operations")
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(folder().join(name)).unwrap()
}

/// Words of a text that are names of metrics.
pub(crate) fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("sheaf_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Names of the series that a process shows.
pub(crate) fn live(ready: &Ready) -> BTreeSet<String> {
    let (status, text) = get(ready, "/metrics");
    assert_eq!(status, 200);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split(['{', ' ']).next()?.to_owned())).collect()
}

/// Has a server refuse a call at one of its limits, so that this is counted.
fn be_refused(uri: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(async {
        let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
        let body = Bytes::from(vec![b' '; 17 << 20]);
        pool.connection(uri).unwrap().action("StoreStats", body, &CallOptions::default()).await
    });
    assert!(refused.is_err());
}

pub(crate) fn assert_there(
    wanted: &BTreeSet<String>,
    live: &BTreeSet<String>,
    prefix: &str,
    whose: &str,
) {
    let gone: Vec<_> = wanted.difference(live).filter(|name| name.starts_with(prefix)).collect();
    assert!(gone.is_empty(), "{whose} does not show {gone:?}; it shows {live:?}");
}

#[test]
fn every_metric_of_alerts_and_dashboard_is_shown_by_a_server() {
    let (alerts, dashboard) = (read("alerts.yaml"), read("dashboard.json"));
    let mut wanted: BTreeSet<String> = metrics(&alerts);
    wanted.append(&mut metrics(&dashboard));
    // Those of a replicated coordinator are looked for where there is one.
    wanted.retain(|name| !name.starts_with("sheaf_raft_"));
    assert!(wanted.len() > 40, "{wanted:?}");
    let server = Server::start(&["--workers", "1"]);
    let id = server.put(5, &["--register"]);
    server.wait_for_state(&id, "completed");
    be_refused(server.ready.url("flight").unwrap());
    assert_there(&wanted, &live(&server.ready), "", "mode all");
    // Values of labels that alerts and dashboard select by.
    let (_, text) = server.admin("/metrics");
    for label in [
        "result=\"Completed\"",
        "state=\"pending\"",
        "state=\"processing\"",
        "state=\"failed\"",
        "code=\"ok\"",
    ] {
        assert!(text.contains(label), "{label} in {text}");
    }
    // What an alert is to see the first of is counted from 0 on.
    for series in [
        "sheaf_worker_attempts_total{result=\"Lost\"} 0",
        "sheaf_store_puts_failed_total{code=\"disk_full\"} 0",
        "sheaf_store_puts_failed_total{code=\"io\"} 0",
        "sheaf_store_puts_failed_total{code=\"corrupt\"} 0",
        "sheaf_store_puts_failed_total{code=\"internal\"} 0",
    ] {
        assert!(text.lines().any(|line| line == series), "{series} in {text}");
    }

    // The same where each part is a process of its own.
    let coordinator = Server::start(&["--mode", "coordinator"]);
    let at = coordinator.ready.url("coordinator").unwrap().to_owned();
    let flight = Server::start(&["--mode", "flight", "--coordinator", &at]);
    let store = flight.ready.url("flight").unwrap().to_owned();
    let worker = ["--mode", "worker", "--coordinator", &at, "--flight-addr", &store];
    let mut worker = serve(&worker, &[]);
    let ready = worker.wait_ready(PATIENCE).unwrap();
    let id = flight.put(5, &["--register"]);
    flight.wait_for_state(&id, "completed");
    be_refused(&store);
    assert_there(&wanted, &live(&coordinator.ready), "sheaf_coordinator_", "mode coordinator");
    for prefix in ["sheaf_store_", "sheaf_flight_", "process_"] {
        assert_there(&wanted, &live(&flight.ready), prefix, "mode flight");
    }
    assert_there(&wanted, &live(&ready), "sheaf_worker_", "mode worker");
}

#[test]
fn every_alert_says_what_to_do_and_has_a_place_in_the_runbook() {
    let (alerts, runbook) = (read("alerts.yaml"), read("README.md"));
    let names: Vec<_> = alerts.lines().filter_map(|line| line.split_once("- alert: ")).collect();
    assert!(names.len() > 10, "{names:?}");
    for (_, name) in &names {
        let headings = runbook.lines().filter(|line| line.starts_with("### "));
        let mut headed = headings.filter(|line| line.contains(name));
        assert!(headed.next().is_some(), "{name} has no section in RUNBOOK");
    }
    for word in ["action:", "summary:", "severity:"] {
        assert_eq!(alerts.matches(word).count(), names.len(), "{word}");
    }
}

/// What the README says that these actions answer.
#[test]
fn what_servers_say_of_themselves_is_what_is_written() {
    let server = Server::start(&["--workers", "0"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = |action: &str| -> serde_json::Value {
        let uri = server.ready.url("flight").unwrap();
        let answers = runtime.block_on(async {
            let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
            let (body, options) = (Bytes::from_static(b"{}"), CallOptions::default());
            pool.connection(uri).unwrap().action(action, body, &options).await.unwrap()
        });
        serde_json::from_slice(&answers[0]).unwrap()
    };
    let readme = std::fs::read_to_string(sheaf_testkit::workspace_root().join("README.md"));
    let readme = readme.unwrap().replace('\n', " ");
    for action in ["ServerInfo", "CoordinatorInfo"] {
        let (_, told) = readme.split_once(&format!("`{action} {{}}` answers `{{")).unwrap();
        let told: BTreeSet<_> = told.split_once('}').unwrap().0.split(',').collect();
        let answered = answer(action);
        let fields: Vec<_> =
            answered.as_object().unwrap().keys().map(|name| format!("\"{name}\"")).collect();
        assert_eq!(told, fields.iter().map(String::as_str).collect(), "{action}");
        assert!(readme.contains(&format!("`{action}`, ")), "{action} is in the list of actions");
    }
}

/// What is remembered, and for how long, is what the engine does by default.
#[test]
fn sizes_are_told_by_the_limits_there_are() {
    let limits = sheaf_coordinator::engine::Config::default();
    let (hour, text) = (3_600, read("SIZING.md").replace('\n', " "));
    let finished = u64::try_from(limits.max_finished).unwrap();
    let days = limits.keep_failed.as_secs() / (24 * hour);
    for told in [
        format!("min(finished in {} h, ", limits.keep_finished.as_secs() / hour),
        format!("min(failed in {days} days, "),
        format!("the oldest beyond {}.", sheaf_terminal::count(finished)),
        format!("at most {}: more are refused", sheaf_terminal::count(limits.max_live)),
        "an older one answers `not_found`".to_owned(),
    ] {
        assert!(text.contains(&told), "{told}");
    }
    assert_eq!(limits.max_finished, limits.max_failed);
}

#[test]
fn the_dashboard_is_complete() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "identifiers are unique");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = panel["title"].as_str().unwrap();
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["gridPos"]["w"].as_u64().unwrap() <= 24, "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let text = target["expr"].as_str().unwrap();
            assert!(text.contains("$instance"), "{title}: {text}");
        }
    }
}

/// Runs a tool that may not be there; false where it is not.
fn tool(command: &mut Command) -> bool {
    let program = command.get_program().to_string_lossy().into_owned();
    let Ok(output) = command.output() else {
        eprintln!("SKIP: {program} is not installed here");
        return false;
    };
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&text));
    true
}

#[test]
fn rules_and_scrape_configuration_pass_promtool() {
    for words in [
        &["check", "rules", "alerts.yaml"][..],
        &["test", "rules", "alerts_test.yaml"],
        &["check", "config", "prometheus.yaml"],
    ] {
        if !tool(Command::new("promtool").args(words).current_dir(folder())) {
            return;
        }
    }
}

#[test]
fn the_unit_is_sound_and_its_flags_are_settings() {
    let unit = read("sheaf.service");
    let value = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing")).to_owned()
    };
    // The grace period of 30 s and the seconds to close fit in.
    assert!(value("TimeoutStopSec=").parse::<u64>().unwrap() > 35);
    assert_eq!(value("KillSignal="), "SIGTERM");
    let place = TempDir::new().unwrap();
    let start = unit.replace("\\\n", "");
    let start = start.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let (data, config) = (place.path().join("S"), place.path().join("sheaf.yaml"));
    std::fs::write(&config, "flight-addr: 127.0.0.1:0\nttl: 30m\n").unwrap();
    let words = start.split_whitespace().skip(2).map(|word| {
        word.replace("%S", data.to_str().unwrap())
            .replace("%d", place.path().to_str().unwrap())
            .replace("/etc/sheaf/sheaf.yaml", config.to_str().unwrap())
    });
    let words: Vec<String> = words.collect();
    assert!(words.len() > 10, "{words:?}");
    let found = Finding::of(&words.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(found.check("configuration")["verdict"], "ok", "{:#}", found.report);

    // It wants the programs to be where the unit says.
    let copy = place.path().join("sheaf.service");
    std::fs::write(&copy, unit.replace("/usr/local/bin/sheaf", env!("CARGO_BIN_EXE_sheaf")))
        .unwrap();
    tool(Command::new("systemd-analyze").arg("verify").arg(&copy));
}

#[test]
fn the_image_has_what_its_container_needs() {
    let text = read("Containerfile");
    for line in ["STOPSIGNAL SIGTERM", "USER 65532:65532", "FROM scratch AS base", "VOLUME /data"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    // What it sets are settings: they are refused only for what they open.
    let mut command = crate::harness::command();
    let line = text.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    for (name, value) in line.split(' ').filter_map(|pair| pair.split_once('=')) {
        command.env(name, value);
    }
    let ran = crate::harness::Ran(command.args(["doctor", "--json"]).output().unwrap());
    let report: serde_json::Value = serde_json::from_str(&ran.stdout()).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let places: Vec<_> = checks.filter(|check| check["name"] == "configuration").collect();
    assert_eq!(places.len(), 2, "{report:#}");
    for check in places {
        assert!(check["found"].as_str().unwrap().contains("--insecure"), "{check}");
    }
    assert!(Path::new(&folder()).join("Containerfile.dockerignore").exists());
}
