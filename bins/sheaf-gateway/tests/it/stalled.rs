//! Clients that do not read, and streams without room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sheaf_testkit::{Process, soak, wait_until};

use crate::harness::{Kafka, PATIENCE};

const MB: u64 = 1_000_000;

/// About one kilobyte with a number.
pub(crate) fn message(partitions: i64, n: i64) -> (i32, String, Option<String>) {
    let value = format!(r#"{{"n":{n},"text":"{}"}}"#, "x".repeat(1_000));
    (i32::try_from(n % partitions).unwrap(), n.to_string(), Some(value))
}

/// A number of `/proc/PID/status`, in bytes where it is of memory.
pub(crate) fn status(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let number: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    if line.ends_with("kB") { number * 1024 } else { number }
}

/// The most memory that a process has while this lives.
struct Most {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Most {
    fn of(pid: u32) -> Self {
        let (bytes, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most, is_over) = (Arc::clone(&bytes), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(status(pid, "RssAnon:"), Ordering::Relaxed);
                // sleep: a sample now and then.
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Most { bytes, stop }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.bytes.load(Ordering::Relaxed)
    }
}

/// How many rows a client has printed.
pub(crate) fn count(client: &Process) -> usize {
    let text = std::fs::read(client.stdout_path()).unwrap();
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Numbers of these rows.
pub(crate) fn numbers(client: &Process) -> Vec<i64> {
    let text = std::fs::read_to_string(client.stdout_path()).unwrap();
    let rows = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    rows.map(|row| row["n"].as_i64().unwrap()).collect()
}

/// A follower that does not read has its topic wait and nobody else; memory stays
/// within limits, and it gets every message when it reads on.
#[tokio::test(flavor = "multi_thread")]
async fn soak_a_client_that_stalls_costs_no_more_than_its_stream() {
    let Some(kafka) = Kafka::start() else { return };
    for topic in ["stalled", "served"] {
        kafka.create(topic, 2).await;
    }
    let limit = 16 * MB;
    let gateway = kafka.gateway(
        "stalled,served",
        &["--buffer-limit", "16MB", "--ttl", "2s", "--metrics", "--metrics-addr", ":0"],
    );
    kafka.produce("stalled", (0..100).map(|n| message(2, n)));
    kafka.produce("served", (0..100).map(|n| message(2, n)));
    let follow = |topic| gateway.client(&["--topic", topic, "--follow", "--columns", "n,_offset"]);
    let is_there = |topic: &str| gateway.rows(topic, &["--columns", "n"]).len() == 100;
    wait_until(PATIENCE, "rows", || is_there("stalled") && is_there("served")).unwrap();
    let whole = ["--topic", "stalled", "--follow"];
    let mut stalled = gateway.client(&whole);
    let served = follow("served");
    wait_until(PATIENCE, "the followers", || count(&stalled) >= 100 && count(&served) >= 100)
        .unwrap();
    let before = status(gateway.process.pid(), "RssAnon:");
    let most = Most::of(gateway.process.pid());
    stalled.pause().unwrap();
    let (lasts, batch) = if soak() { (600, 2_000) } else { (6, 5_000) };
    let (mut produced, mut more) = (100, 100);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(lasts) {
        // As much as is several times its stream.
        if produced < 40_000 {
            kafka.produce("stalled", (produced..produced + batch).map(|n| message(2, n)));
            produced += batch;
        }
        kafka.produce("served", (more..more + 500).map(|n| message(2, n)));
        more += 500;
        let is_served = || count(&served) == usize::try_from(more).unwrap();
        wait_until(PATIENCE, "what others read", is_served).unwrap();
    }
    let reached = most.end();
    // What the other stream has is not much: its rows have been read.
    let growth = reached.saturating_sub(before);
    // Besides: what librdkafka has fetched, what waits to be handed on, two calls.
    assert!(growth <= 2 * limit + 80 * MB, "{growth} bytes more than {before}");
    eprintln!("{before} bytes before, {reached} at most; {produced} and {more} messages");
    stalled.resume().unwrap();
    let expected: Vec<i64> = (0..produced).collect();
    wait_until(PATIENCE, "all of it", || count(&stalled) >= expected.len()).unwrap();
    let mut read = numbers(&stalled);
    read.sort_unstable();
    assert!(read == expected, "{} of {}: {:?}", read.len(), expected.len(), stalled.stderr());
}

/// What goes for want of room is counted to the row.
#[tokio::test(flavor = "multi_thread")]
async fn oldest_rows_that_are_dropped_are_counted_one_by_one() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 2).await;
    let drop_oldest = ["--full", "drop-oldest", "--buffer-limit", "2MB", "--batch-size", "100"];
    let metrics = ["--metrics", "--metrics-addr", ":0"];
    let gateway = kafka.gateway("logs", &[&drop_oldest[..], &metrics].concat());
    kafka.produce("logs", (0..10_000).map(|n| message(2, n)));
    let processed = r#"sheaf_stream_records_processed_total{topic="logs"}"#;
    wait_until(PATIENCE, "all rows", || gateway.metric(processed) == 10_000).unwrap();
    let left = gateway.rows("logs", &["--columns", "n,_partition,_offset"]);
    let dropped = gateway.metric(r#"sheaf_stream_records_dropped_total{topic="logs"}"#);
    assert!(left.len() > 500 && dropped > 5_000, "{} left, {dropped} dropped", left.len());
    assert_eq!(u64::try_from(left.len()).unwrap() + dropped, 10_000);
    for partition in 0..2 {
        let of = left.iter().filter(|row| row["_partition"].as_i64() == Some(partition));
        let offsets: Vec<i64> = of.map(|row| row["_offset"].as_i64().unwrap()).collect();
        // One may have come before the other as a whole.
        let first = offsets.first().copied().unwrap_or(5_000);
        assert_eq!(offsets, (first..5_000).collect::<Vec<_>>(), "{partition}");
    }
}

/// A member whose stream is full lets its partitions go; between it and the one
/// that takes them over no message is missing.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_full_stream_are_let_go_and_read_on_by_another() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 2).await;
    let full = ["--buffer-limit", "2MB", "--batch-size", "100", "--ttl", "1h"];
    let metrics = ["--metrics", "--metrics-addr", ":0"];
    let start = || kafka.gateway("logs", &[&full[..], &metrics].concat());
    let first = start();
    kafka.produce("logs", (0..12_000).map(|n| message(2, n)));
    let is_paused = || first.metric(r#"sheaf_kafka_paused_partitions{topic="logs"}"#) == 2;
    wait_until(PATIENCE, "a full stream", is_paused).unwrap();
    let second = start();
    let processed = r#"sheaf_stream_records_processed_total{topic="logs"}"#;
    wait_until(PATIENCE, "the other member", || second.metric(processed) > 0).unwrap();
    let follow = ["--topic", "logs", "--follow", "--columns", "n"];
    let followers = [first.client(&follow), second.client(&follow)];
    let seen = || {
        let all = followers.iter().flat_map(numbers);
        all.collect::<std::collections::BTreeSet<i64>>()
    };
    let is_all = || seen().len() == 12_000;
    let waited = wait_until(PATIENCE, "all messages", is_all);
    let seen = seen();
    let missing: Vec<i64> = (0..12_000).filter(|n| !seen.contains(n)).collect();
    let logs = [&first, &second].map(|one| one.process.stderr() + &one.metrics());
    let clients = followers.each_ref().map(|one| format!("{} {}", count(one), one.stderr()));
    assert!(
        waited.is_ok(),
        "{} missing: {:?}..{:?}; {clients:?}\n{}\n{}",
        missing.len(),
        missing.first(),
        missing.last(),
        logs[0],
        logs[1]
    );
}
