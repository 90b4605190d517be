//! Rows in Parquet files, each once, as others read them.

use std::path::{Path, PathBuf};
use std::process::Command;

use sheaf_testkit::{Process, S3Server, TempDir, libduckdb, python, soak, wait_until};

use crate::harness::{Gateway, Kafka, PATIENCE, run};
use crate::persist::numbers;

/// Files below a folder that readers see.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|of| of == "parquet") => found.push(path),
            false => {}
        }
    }
    found
}

/// Rows, different places, and the sum of a column, as pyarrow reads them.
fn seen(python: &Path, folder: &Path, sum: &[&str]) -> serde_json::Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/count.py");
    let output = Command::new(python).arg(script).arg(folder).args(sum).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn value(n: i64) -> String {
    if n % 500 == 13 { format!("{{{n}") } else { format!(r#"{{"n":{n},"partition":{}}}"#, -n) }
}

fn message(n: i64) -> (i32, String, Option<String>) {
    (i32::try_from(n % 4).unwrap(), n.to_string(), Some(value(n)))
}

/// Killed in the midst of files: what is in them is what was produced.
#[tokio::test(flavor = "multi_thread")]
async fn soak_killed_gateways_write_every_message_into_one_file() {
    let (Some(kafka), Some(python)) = (Kafka::start(), python()) else { return };
    let folder = TempDir::new().unwrap();
    let (kills, each) = (if soak() { 50 } else { 4 }, 2_000_i64);
    kafka.create("orders", 4).await;
    let target = format!("parquet:{}", folder.path().display());
    let start = |every: &str| -> Gateway {
        let persist = ["--persist-to", &target, "--persist-every", every];
        kafka.gateway("orders", &persist)
    };
    let mut produced = 0;
    for number in 0..kills {
        let mut gateway = start("50ms");
        kafka.produce("orders", (produced..produced + each).map(message));
        produced += each;
        // Before the first new file, or between two of the same portion.
        let enough = files(folder.path()).len() + number % 4;
        let is_enough = || files(folder.path()).len() >= enough;
        wait_until(PATIENCE, "files to be written", is_enough).unwrap();
        gateway.process.kill9().unwrap();
    }
    // Nobody waits so long: the end does not either.
    let mut gateway = start("1h");
    let last = |n: i64| (i32::try_from(n % 4).unwrap(), String::new(), Some(value(n)));
    kafka.produce("orders", (produced..produced + 4).map(last));
    let condition = format!("n >= {produced}");
    let is_read = || gateway.rows("orders", &["--where", &condition]).len() == 4;
    wait_until(PATIENCE, "all to be read", is_read).unwrap();
    assert!(gateway.process.terminate(PATIENCE).unwrap().success());

    let all: Vec<i64> = (0..produced + 4).filter(|n| n % 500 != 13).collect();
    let (count, sum) = (i64::try_from(all.len()).unwrap(), all.iter().sum::<i64>());
    let (orders, letters) =
        (folder.path().join("orders"), folder.path().join("orders.dead-letters"));
    let found = seen(&python, &orders, &["n"]);
    assert_eq!(found["seen"], serde_json::json!([count, count, sum]), "{found}");
    let dead = produced + 4 - count;
    let found = seen(&python, &letters, &[]);
    assert_eq!(found["seen"], serde_json::json!([dead, dead, 0]), "{found}");

    let Some(library) = libduckdb() else { return };
    // The messages' own column is not hidden by a folder's name.
    let sql = format!(
        "SELECT count(*), count(DISTINCT (_partition, _offset)), CAST(sum(n) AS BIGINT), \
         CAST(sum(partition) AS BIGINT) FROM read_parquet('{}/**/*.parquet', union_by_name=true)",
        orders.display()
    );
    let found = numbers(&library, Path::new(":memory:"), &sql).await;
    assert_eq!(found, [count, count, sum, -sum]);
}

/// The same in a bucket of a server that speaks S3.
#[tokio::test(flavor = "multi_thread")]
async fn soak_killed_gateways_write_every_message_into_one_object() {
    let (Some(kafka), Some(python)) = (Kafka::start(), python()) else { return };
    let Some(server) = S3Server::start().unwrap() else { return };
    server.create_bucket("lake").unwrap();
    let (kills, each) = (if soak() { 20 } else { 2 }, 2_000_i64);
    kafka.create("orders", 2).await;
    let target = format!("s3://lake/some/topics?endpoint={}&region=us-east-1", server.url());
    let start = || {
        let persist = ["--persist-to", &target, "--persist-every", "50ms"];
        let session = ["--kafka-option", "session.timeout.ms=6000"];
        let arguments = ["--topics", "orders", "--brokers", kafka.broker.bootstrap()];
        let mut process = Process::command(env!("CARGO_BIN_EXE_sheaf-gateway"))
            .args(["serve", "--port", "0"])
            .args([&arguments[..], &persist, &session].concat())
            .env("AWS_ACCESS_KEY_ID", "me")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .spawn()
            .unwrap();
        process.wait_ready(PATIENCE).unwrap();
        process
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/count.py");
    let seen = |stream: &str, sum: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(script).arg(format!("lake/some/topics/{stream}")).args(sum);
        let output = command.env("S3_ENDPOINT", server.url()).output().unwrap();
        let found = serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()?;
        Some(found["seen"].as_array()?.iter().filter_map(serde_json::Value::as_i64).collect())
    };
    let rows = || seen("orders", &["n"]).map_or(0, |seen: Vec<i64>| seen[0]);
    let message = |n: i64| (i32::try_from(n % 2).unwrap(), n.to_string(), Some(value(n)));
    let mut produced = 0;
    for _ in 0..kills {
        let mut process = start();
        let before = rows();
        kafka.produce("orders", (produced..produced + each).map(message));
        produced += each;
        wait_until(PATIENCE, "an object to be written", || rows() > before).unwrap();
        process.kill9().unwrap();
    }
    let mut process = start();
    let all: Vec<i64> = (0..produced).filter(|n| n % 500 != 13).collect();
    let (count, sum) = (i64::try_from(all.len()).unwrap(), all.iter().sum::<i64>());
    wait_until(PATIENCE, "all to be written", || rows() >= count).unwrap();
    assert!(process.terminate(PATIENCE).unwrap().success());
    assert_eq!(seen("orders", &["n"]), Some(vec![count, count, sum]));
    let dead = produced - count;
    assert_eq!(seen("orders.dead-letters", &[]), Some(vec![dead, dead, 0]));
}

/// New fields, values that turn out to have a type, and a group that begins at the end.
#[tokio::test(flavor = "multi_thread")]
async fn columns_that_come_later_are_in_later_files() {
    let (Some(kafka), Some(python)) = (Kafka::start(), python()) else { return };
    let folder = TempDir::new().unwrap();
    kafka.create("logs", 1).await;
    kafka.produce("logs", [(0, "old".to_owned(), Some("{\"a\":0}"))]);
    let target = format!("parquet:{}", folder.path().display());
    let persist = ["--persist-to", &target, "--persist-every", "100ms", "--start", "latest"];
    let start = || kafka.gateway("logs", &persist);
    let mut gateway = start();
    let begin = folder.path().join("logs/partition-0/_begin.json");
    wait_until(PATIENCE, "the partition to begin", || begin.is_file()).unwrap();
    gateway.process.kill9().unwrap();
    // Nobody reads this now, and it is not lost by another beginning at the end.
    let values = [
        r#"{"a":1,"none":null,"empty":{}}"#,
        r#"{"a":2.5,"b":"x","empty":{"in":[{}]}}"#,
        r#"{"a":3,"c":[{"d":true}]}"#,
    ];
    for (number, value) in (1..).zip(values) {
        let mut gateway = start();
        kafka.produce("logs", [(0, String::new(), Some(value))]);
        let is_written = || files(folder.path()).len() == number;
        wait_until(PATIENCE, "a file", is_written).unwrap();
        assert!(gateway.process.terminate(PATIENCE).unwrap().success());
    }
    let Some(library) = libduckdb() else { return };
    let sql = format!(
        "SELECT count(*), CAST(sum(a) * 2 AS BIGINT), count(b), count(c) FROM \
         read_parquet('{}/logs/**/*.parquet', union_by_name=true)",
        folder.path().display()
    );
    assert_eq!(numbers(&library, Path::new(":memory:"), &sql).await, [3, 13, 1, 1]);
    let first = files(folder.path()).into_iter().min().unwrap();
    let columns = seen(&python, &first, &[])["columns"].to_string();
    assert!(columns.starts_with(r#"["a","_topic""#), "{columns}");
}

#[test]
fn a_place_that_cannot_be_written_is_told_at_the_start() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let below = format!("parquet:{}/topics", file.display());
    for (target, words) in [
        (below.as_str(), ["create directory", "file"]),
        (
            "s3://lake?endpoint=http://127.0.0.1:1&region=x",
            ["s3://lake", "whether a server answers"],
        ),
        ("s3://lake?endpoint=secret", ["s3://BUCKET/PREFIX", "endpoint"]),
        ("s3:lake", ["s3://BUCKET/PREFIX", "kind"]),
    ] {
        let (code, _, error) =
            run(&["serve", "--topics", "logs", "--port", "0", "--persist-to", target]);
        assert!(code.is_some_and(|code| code != 0), "{error}");
        assert!(words.iter().all(|word| error.contains(word)), "{target}: {error}");
    }
    let arguments = ["serve", "--topics", "logs", "--port", "0", "--persist-every", "1s"];
    let (code, _, error) = run(&arguments);
    assert!(code == Some(2) && error.contains("--persist-to"), "{error}");
}
