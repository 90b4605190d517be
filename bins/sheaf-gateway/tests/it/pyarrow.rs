//! What pyarrow reads is what was produced.

use std::process::Command;

use sheaf_testkit::{Process, python, soak, wait_until};

use crate::harness::{Kafka, PATIENCE};

/// A follower gets every message of four partitions once and in order, many
/// more than the stream has room for.
#[tokio::test(flavor = "multi_thread")]
async fn soak_pyarrow_reads_exactly_what_was_produced() {
    let (Some(kafka), Some(python)) = (Kafka::start(), python()) else { return };
    let count: i64 = if soak() { 1_000_000 } else { 40_000 };
    kafka.create("events", 4).await;
    let message = |n: i64| {
        let hash = n * 2_654_435_761;
        let value = format!(
            r#"{{"n":{n},"name":"user-{}","value":{}.25,"ok":{},"hash":{hash}}}"#,
            n % 1_000,
            n % 100,
            n % 2 == 0
        );
        (i32::try_from(n % 4).unwrap(), n.to_string(), Some(value))
    };
    kafka.produce("events", (0..count).map(message));
    // A tenth of what there is, and less: the reader has to make room.
    let limit = if soak() { "100MB" } else { "2MB" };
    let arguments = ["--batch-size", "1024", "--ttl", "60s", "--buffer-limit", limit];
    let gateway = kafka.gateway("events", &arguments);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/follow.py");
    let (uri, rows) = (gateway.uri(), count.to_string());
    let output = Command::new(python).args([script, &uri, "events", &rows]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}\n{}", gateway.process.stderr());
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["rows"].as_i64(), Some(count));
    for partition in 0..4 {
        let of = &seen["partitions"][partition.to_string()];
        assert_eq!(of["rows"].as_i64(), Some(count / 4), "{seen}");
        let expected: i64 = (0..count / 4).map(|at| 4 * at + partition).sum();
        assert_eq!(of["sum"].as_i64(), Some(expected), "{seen}");
    }
    let types = &seen["types"];
    let typed = [("n", "int64"), ("name", "string"), ("value", "double"), ("ok", "bool")];
    for (column, expected) in typed {
        assert_eq!(types[column].as_str(), Some(expected), "{types}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_follows_a_topic_whose_columns_change() {
    let (Some(kafka), Some(python)) = (Kafka::start(), python()) else { return };
    kafka.create("logs", 1).await;
    let send = |values: &[&str]| {
        kafka.produce("logs", values.iter().map(|value| (0, String::new(), Some(value))));
    };
    send(&[r#"{"n":1}"#, r#"{"n":2}"#]);
    let gateway = kafka.gateway("logs", &[]);
    wait_until(PATIENCE, "two rows", || gateway.rows("logs", &[]).len() == 2).unwrap();
    let script =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/gateway_clients/read_topic.py");
    let uri = gateway.uri();
    let reader = Process::command(python).args([script, "logs", &uri]).spawn().unwrap();
    let has = |text: &str| reader.stdout().contains(text);
    wait_until(PATIENCE, "what is there", || has("2 rows of logs: n, _topic")).unwrap();
    // It says so before it follows: some may come too early for it.
    let follows = || {
        send(&[r#"{"n":3}"#]);
        has("'n': 3")
    };
    wait_until(PATIENCE, "a follower", follows).unwrap();
    send(&[r#"{"n":4,"more":"x"}"#]);
    wait_until(PATIENCE, "the new column", || has("'more': 'x'")).unwrap();
    assert!(!reader.stderr().contains("Traceback"), "{}", reader.stderr());
}
