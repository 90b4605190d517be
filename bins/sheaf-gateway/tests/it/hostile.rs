//! What nobody wishes for: enormous messages, a full disk, wrong credentials.

use std::path::{Path, PathBuf};
use std::process::Command;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sheaf_testkit::{TempDir, libduckdb, wait_until};

use crate::harness::{Kafka, PATIENCE, run};

/// A message that is larger than its stream is a dead letter with its first bytes;
/// what comes before and after it is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_hundred_megabytes_is_a_dead_letter_and_reading_goes_on() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 1).await;
    let mut config = kafka.config();
    config.set("message.max.bytes", "200000000");
    let producer: BaseProducer = config.create().unwrap();
    let enormous = format!(r#"{{"n":1,"text":"{}"}}"#, "x".repeat(100_000_000));
    let large = format!(r#"{{"n":3,"text":"{}"}}"#, "x".repeat(6_000_000));
    for value in [r#"{"n":0}"#, &enormous, r#"{"n":2}"#, &large, r#"{"n":4}"#] {
        let record = BaseRecord::<(), _>::to("logs").partition(0).payload(value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(PATIENCE).unwrap();
    }
    let gateway = kafka.gateway("logs", &["--buffer-limit", "32MB"]);
    let read = || gateway.rows("logs", &["--columns", "n,_offset"]);
    let waited = wait_until(PATIENCE, "the last row", || read().iter().any(|row| row["n"] == 4));
    assert!(waited.is_ok(), "{:?}\n{}", read(), gateway.process.stderr());
    let numbers: Vec<_> = read().iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [0, 2, 3, 4]);
    let dead = gateway.rows("logs.dead-letters", &["--columns", "error,_offset"]);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["_offset"], 1);
    let error = dead[0]["error"].as_str().unwrap();
    assert!(error.contains("larger") && error.contains("100000"), "{error}");
}

/// A file system of few megabytes, where this user may mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "sheaf-test"]).arg(at);
        let is_mounted = mount.output().is_ok_and(|output| output.status.success());
        is_mounted.then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).output());
    }
}

/// A full disk has rows wait, is named, and loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_a_full_disk_goes_on_when_there_is_room() {
    let (Some(kafka), Some(library)) = (Kafka::start(), libduckdb()) else { return };
    let folder = TempDir::new().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else {
        println!("SKIP: no file system can be mounted here");
        return;
    };
    kafka.create("logs", 2).await;
    let path = folder.path().join("x.duckdb");
    let [path, library] = [&path, &library].map(|path| path.to_str().unwrap());
    let persist = ["--persist", "--db-path", path, "--libduckdb", library];
    let metrics = ["--metrics", "--metrics-addr", ":0"];
    let mut gateway = kafka.gateway("logs", &[&persist[..], &metrics].concat());
    let text =
        |n: i64| (0..40).map(|at| (n * 7_919 + at * 104_729).to_string()).collect::<String>();
    let message = |n: i64| {
        let value = format!(r#"{{"n":{n},"text":"{}"}}"#, text(n));
        (i32::try_from(n % 2).unwrap(), String::new(), Some(value))
    };
    let persisted =
        |gateway: &crate::harness::Gateway| gateway.metric("sheaf_persisted_rows_total");
    kafka.produce("logs", (0..1_000).map(message));
    wait_until(PATIENCE, "the first rows", || persisted(&gateway) == 1_000).unwrap();
    let filler = folder.path().join("filler");
    // As much as there is room for; that it does not all fit is the point.
    drop(std::fs::write(&filler, vec![1; 32 << 20]));
    kafka.produce("logs", (1_000..20_000).map(message));
    let is_full = |line: &str| {
        let says = line.contains("not persisted yet") && line.contains("No space left");
        says.then_some(())
    };
    gateway.process.wait_for_stderr_line(PATIENCE, is_full).unwrap();
    assert!(persisted(&gateway) < 20_000);
    std::fs::remove_file(filler).unwrap();
    wait_until(PATIENCE, "all rows", || persisted(&gateway) == 20_000).unwrap();
    assert!(gateway.process.terminate(PATIENCE).unwrap().success());
    let counts =
        "SELECT count(*), count(DISTINCT n), count(DISTINCT (_partition, _offset)) FROM logs";
    let found = crate::persist::numbers(library.as_ref(), path.as_ref(), counts).await;
    assert_eq!(found, [20_000; 3]);
    drop(disk);
}

/// Credentials that nobody takes end the start, with what is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_taken_end_the_start() {
    let Some(kafka) = Kafka::start() else { return };
    let options = [
        "security.protocol=SASL_PLAINTEXT",
        "sasl.mechanism=PLAIN",
        "sasl.username=me",
        "sasl.password=secret",
    ];
    let mut arguments = vec!["serve", "--port", "0", "--topics", "logs"];
    arguments.extend(["--brokers", kafka.broker.bootstrap()]);
    arguments.extend(options.iter().flat_map(|option| ["--kafka-option", option]));
    let (code, _, error) = run(&arguments);
    let expected = sheaf_retry::Code::Unauthenticated.exit_code();
    assert_eq!(code, Some(i32::from(expected)), "{error}");
    assert!(error.contains("sasl.password of --kafka-option"), "{error}");
    assert!(error.contains("SASL PLAIN") && !error.contains("secret"), "{error}");
}
