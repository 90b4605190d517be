//! Stages whose rows go between servers while their workers are killed.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use sheaf_coordinator::State;
use sheaf_retry::Jitter;
use sheaf_testkit::Process;
use sheaf_worker::{ShuffleTask, SpreadBy, TaskInput, TaskOutput};

use crate::harness::Server;
use crate::remote::{Remote, rows_out, seed, sized, worker};

const SENDERS: u32 = 6;
const PARTITIONS: u32 = 4;
const WORKERS: usize = 2;

/// The rows of one batch of a sender: those of all of them are 0, 1, 2 and so on.
fn rows(sender: u32, number: u64, batches: u64, size: i64) -> RecordBatch {
    let first = i64::try_from(u64::from(sender) * batches + number).unwrap() * size;
    let numbers: Vec<i64> = (first..first + size).collect();
    let texts: Vec<String> = numbers.iter().map(|row| format!("row {row} of a sender")).collect();
    let columns: [(&str, ArrayRef); 2] = [
        ("row", Arc::new(Int64Array::from(numbers))),
        ("text", Arc::new(StringArray::from(texts))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn sending(sender: u32, servers: &[String]) -> ShuffleTask {
    ShuffleTask::sending(TaskOutput {
        query: "q".to_owned(),
        stage: 1,
        sender,
        senders: SENDERS,
        workers: servers.to_vec(),
        partitions: PARTITIONS,
        by: SpreadBy::Hash(vec!["row".to_owned()]),
        only: Vec::new(),
    })
}

fn reading(partition: u32, servers: &[String]) -> ShuffleTask {
    let worker = servers[partition as usize % servers.len()].clone();
    ShuffleTask::reading(vec![TaskInput { worker, query: "q".to_owned(), stage: 1, partition }])
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_stages_give_every_row_once_while_their_workers_are_killed() {
    let (batches, size) = (sized(20, 200), 5_000);
    let total = i64::try_from(u64::from(SENDERS) * batches).unwrap() * size;
    let mut random = Jitter::new(seed());
    let first = Server::start(&["--workers", "0", "--max-retries", "1000"]);
    let uri = first.ready.url("flight").unwrap().to_owned();
    let second = Server::start(&["--mode", "flight", "--coordinator", &uri]);
    let servers = [uri.clone(), second.ready.url("flight").unwrap().to_owned()];
    let remote = Remote::at(&uri);
    let senders: Vec<String> = (0..SENDERS).map(|sender| format!("send-{sender}")).collect();
    for (sender, name) in (0..SENDERS).zip(&senders) {
        let rows: Vec<_> = (0..batches).map(|at| rows(sender, at, batches, size)).collect();
        remote.put_task(name, &sending(sender, &servers), &rows, &[]).await;
    }
    for partition in 0..PARTITIONS {
        let task = reading(partition, &servers);
        remote.put_task(&format!("read-{partition}"), &task, &[], &senders).await;
    }

    let sink = format!("parquet:{}", first.path("out"));
    let words = ["--lease", "1s", "--workers", "2", "--sink", &sink];
    let start = || worker(&uri, &uri, &words).0;
    let mut workers: Vec<Process> = (0..WORKERS).map(|_| start()).collect();
    let tasks = u64::from(SENDERS + PARTITIONS);
    let (most, mut kills) = (sized(12, 100), 0);
    while kills < most && remote.count(State::Completed).await < tasks {
        // sleep: a random moment of the work, whatever it does then
        tokio::time::sleep(Duration::from_secs_f64(0.1 + 0.5 * random.next_unit())).await;
        let index = usize::from(random.next_unit() < 0.5);
        workers[index].kill9().unwrap();
        workers[index] = start();
        kills += 1;
    }
    remote.completes(tasks).await;
    assert!(kills >= 1, "done before anything was killed");
    let rows = rows_out(&first.folder.path().join("out"));
    assert_eq!(rows.len() as i64, total, "rows lost or doubled");
    assert!(rows.into_iter().eq(0..total), "other rows");

    let held = || {
        let (_, metrics) = second.admin("/metrics");
        let gauge = metrics.lines().find(|line| line.starts_with("sheaf_exchange_memory_bytes "));
        gauge.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(held() > 1 << 20, "its partitions are not counted");
    // Nothing of the query stays.
    for uri in &servers {
        let gone = remote.action(uri, "CleanupQueryData", r#"{"query":"q"}"#).await;
        assert_eq!(gone["partitions"], PARTITIONS / 2, "{gone}");
    }
    assert!(held() < 1 << 20, "{} bytes are still held", held());
}

/// Payloads and partitions are each as large as all memory: both go to disk for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_memory_is_full_of_payloads_takes_partitions() {
    let (batches, size) = (5, 60_000);
    let total = i64::try_from(u64::from(SENDERS) * batches).unwrap() * size;
    let server = Server::start(&["--workers", "0", "--memory-limit", "64MiB"]);
    let uri = server.ready.url("flight").unwrap().to_owned();
    let (remote, servers) = (Remote::at(&uri), [uri.clone()]);
    let senders: Vec<String> = (0..SENDERS).map(|sender| format!("send-{sender}")).collect();
    for (sender, name) in (0..SENDERS).zip(&senders) {
        let rows: Vec<_> = (0..batches).map(|at| rows(sender, at, batches, size)).collect();
        remote.put_task(name, &sending(sender, &servers), &rows, &[]).await;
    }
    for partition in 0..PARTITIONS {
        let task = reading(partition, &servers);
        remote.put_task(&format!("read-{partition}"), &task, &[], &senders).await;
    }
    let sink = format!("parquet:{}", server.path("out"));
    let _worker = worker(&uri, &uri, &["--workers", "2", "--sink", &sink]);
    remote.completes(u64::from(SENDERS + PARTITIONS)).await;
    let rows = rows_out(&server.folder.path().join("out"));
    assert_eq!(rows.len() as i64, total, "rows lost or doubled");
    assert!(rows.into_iter().eq(0..total), "other rows");
    let (_, metrics) = server.admin("/metrics");
    let spilled = metrics.lines().find(|line| line.starts_with("sheaf_exchange_spilled_bytes"));
    assert!(!spilled.unwrap().ends_with(" 0"), "no chunk went to disk");
}

/// The example as its users run it: an external program between partitions of two servers.
#[test]
fn the_stages_of_the_python_example_give_the_sums_of_one_process() {
    let Some(python) = sheaf_testkit::python() else { return };
    let examples = format!("{}/../../examples", env!("CARGO_MANIFEST_DIR"));
    let (script, flights) =
        (format!("{examples}/pyarrow_stages.py"), format!("{examples}/data/flights.parquet"));
    let folder = sheaf_testkit::TempDir::new().unwrap();
    let out = folder.path().join("out");
    let sink = format!("parquet:{}", out.display());
    let program = format!("exec:{} {script} aggregate", python.display());
    let first = Server::start_in(folder, &["--sink", &sink, "--processor", &program]);
    let uri = first.ready.url("flight").unwrap();
    let second = Server::start(&["--mode", "flight", "--coordinator", uri]);
    let ran = std::process::Command::new(&python)
        .args([&script, "run", uri, second.ready.url("flight").unwrap()])
        .stdin(std::fs::File::open(&flights).unwrap())
        .output()
        .unwrap();
    let (told, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{told}{err}");
    assert_eq!(told.lines().filter(|line| line.contains(" completed")).count(), 7, "{told}");
    let compare = r#"
import sys, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
flights = pq.read_table(sys.argv[1])
wanted = {}
for carrier, delay in zip(flights["carrier"].to_pylist(), flights["dep_delay"].to_pylist()):
    count, minutes = wanted.get(carrier, (0, None))
    minutes = minutes if delay is None else (minutes or 0) + delay
    wanted[carrier] = (count + 1, minutes)
found = pq.read_table(sys.argv[2]).to_pylist()
assert len(found) == len(wanted) > 10, (len(found), len(wanted))
assert {row["carrier"]: (row["flights"], row["minutes"]) for row in found} == wanted
"#;
    let compared = std::process::Command::new(&python)
        .args(["-c", compare, &flights, out.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
}
