//! Many pipelines started and stopped many times through one server: nothing grows.
//!
//! `SHEAF_SOAK=1` runs 100 pipelines 100 times each, otherwise a few.

use std::path::Path;

use futures::StreamExt as _;
use sheaf_drivers::control::{PipelineClient, ServerToken};
use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_pipeline::registry::PipelineState;
use sheaf_retry::SystemClock;

use super::flows::Flows;
use super::pipelines::beating;

/// Pipelines that are started and stopped at the same time.
const AT_ONCE: usize = 8;

fn sizes() -> (usize, usize) {
    if sheaf_testkit::soak() { (100, 100) } else { (6, 4) }
}

fn pipeline(number: usize) -> (String, String) {
    let (name, program) = (format!("small-{number}"), beating());
    let text = format!(
        "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: {name}}}\n\
         sources: [{{id: a, command: [{program}]}}]\n\
         sinks: [{{id: b, command: [{program}], inputs: [a]}}]\n"
    );
    (name, text)
}

/// What a server holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    resident_kib: u64,
    files: usize,
}

fn held(pid: u32, folder: &Path) -> Held {
    let count = |name: &str| std::fs::read_dir(format!("/proc/{pid}/{name}")).unwrap().count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
    Held { descriptors: count("fd"), threads: count("task"), resident_kib, files: files(folder) }
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| 1 + if entry.path().is_dir() { files(&entry.path()) } else { 0 }).sum()
}

/// Processes that work in a folder.
fn processes(folder: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let works = |entry: &std::fs::DirEntry| {
        let directory = std::fs::read_link(entry.path().join("cwd"));
        directory.is_ok_and(|path| path.starts_with(folder))
    };
    all.filter(works).count()
}

async fn rounds(client: &PipelineClient, pipelines: usize, count: usize) {
    futures::stream::iter(0..pipelines)
        .for_each_concurrent(AT_ONCE, |number| async move {
            let (name, text) = pipeline(number);
            for _ in 0..count {
                client.start(&name, text.clone(), false).await.unwrap();
                // Half of them are stopped while they begin.
                let outcome = client.stop(&name, number % 4 == 3).await.unwrap();
                assert_eq!(outcome.state, PipelineState::Stopped, "{}", outcome.reason);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_many_runs_leave_no_process_and_nothing_grows() {
    let (pipelines, count) = sizes();
    let flows = Flows::new();
    let folder = flows.folder.path().canonicalize().unwrap();
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    let token = ServerToken::read(&folder.join(".sheaf/control-token")).unwrap();
    let client = PipelineClient::new(pool, flows.address.parse().unwrap(), Some(token));
    let server = flows.server.as_ref().unwrap().pid();
    // What there is of each pipeline is there after its first two runs.
    rounds(&client, pipelines, 2).await;
    let before = held(server, &folder);
    rounds(&client, pipelines, count).await;
    let after = held(server, &folder);
    println!("{pipelines} pipelines, {count} runs each: {before:?}, then {after:?}");
    assert_eq!(processes(&folder), 1, "the server");
    assert!(after.descriptors <= before.descriptors + 8, "{before:?} {after:?}");
    assert!(after.threads <= before.threads + 8, "{before:?} {after:?}");
    assert!(after.resident_kib <= before.resident_kib + (16 << 10), "{before:?} {after:?}");
    // How far an instance had come when it was stopped decides which of its files are there.
    assert!(after.files <= pipelines * 18 + 10, "{before:?} {after:?}");
    let listed = flows.ask(&["ps", "--all"]);
    let all = listed["pipelines"].as_array().unwrap();
    assert_eq!(all.len(), pipelines);
    assert!(all.iter().all(|one| one["state"] == "stopped"), "{listed}");
    let runs = flows.ask(&["runs"]);
    let runs = runs["runs"].as_array().unwrap();
    // The registry remembers a hundred runs of each.
    assert_eq!(runs.len(), pipelines * (count + 2).min(100));
    let status = flows.ask(&["status", "small-0"]);
    let components = status["pipelines"][0]["components"].as_array().unwrap();
    let held = |status: &serde_json::Value| status == "healthy" || status == "unhealthy";
    assert!(!components.iter().any(|one| held(&one["status"])), "{status}");
}
