//! Topics in, rows out.

use std::collections::BTreeMap;

use sheaf_testkit::wait_until;

use crate::harness::{Kafka, PATIENCE, run};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_a_row_and_what_is_none_is_a_dead_letter() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 4).await;
    let message = |number: i32| {
        let value = match number {
            77 => "{broken".to_owned(),
            _ => format!(r#"{{"n":{number},"level":"info","ms":{}.5}}"#, number % 7),
        };
        (number % 4, format!("k{number}"), Some(value).filter(|_| number != 99))
    };
    kafka.produce("logs", (0..2_000).map(message));
    let gateway = kafka.gateway("logs", &["--batch-size", "128"]);
    wait_until(PATIENCE, "all rows", || gateway.rows("logs", &[]).len() == 1_999).unwrap();
    let all = gateway.rows("logs", &[]);
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    for row in &all {
        let (partition, offset) = (row["_partition"].as_i64().unwrap(), row["_offset"].as_i64());
        let expected = next.entry(partition).or_default();
        // That of the dead letter is left out.
        if (partition, *expected) == (1, 19) {
            *expected += 1;
        }
        assert_eq!(offset, Some(*expected), "partition {partition}");
        *expected += 1;
        let number = 4 * offset.unwrap() + partition;
        assert_eq!(row["n"].as_i64(), Some(number).filter(|_| number != 99), "{row}");
    }
    assert_eq!(next.values().copied().collect::<Vec<_>>(), [500; 4]);
    let dead = gateway.rows("logs.dead-letters", &["--columns", "error,_partition,_offset"]);
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0]["_partition"].as_i64(), dead[0]["_offset"].as_i64()), (Some(1), Some(19)));
    let some = ["--where", "n >= 100 AND n < 110", "--columns", "n,_offset"];
    let some = gateway.rows("logs", &some);
    let mut numbers: Vec<_> = some.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (100..110).collect::<Vec<_>>());
    assert_eq!(gateway.rows("logs", &["--partition", "2", "--from", "400"]).len(), 100);
    assert_eq!(gateway.rows("logs", &["--limit", "3"]).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_rows_were_in_their_stream() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("orders", 2).await;
    let message = |number: i32| (number % 2, String::new(), Some(format!(r#"{{"n":{number}}}"#)));
    kafka.produce("orders", (0..100).map(message));
    let mut gateway = kafka.gateway("orders", &[]);
    wait_until(PATIENCE, "all rows", || gateway.rows("orders", &[]).len() == 100).unwrap();
    assert!(gateway.process.terminate(PATIENCE).unwrap().success());
    kafka.produce("orders", (100..150).map(message));
    let gateway = kafka.gateway("orders", &[]);
    wait_until(PATIENCE, "the new rows", || gateway.rows("orders", &[]).len() >= 50).unwrap();
    let read = gateway.rows("orders", &[]);
    let mut numbers: Vec<_> = read.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (100..150).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_when_the_columns_change() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("grows", 2).await;
    let message = |n: i32| {
        let more = if n < 100 { String::new() } else { format!(r#","more":"{n}""#) };
        (n % 2, String::new(), Some(format!(r#"{{"n":{n}{more}}}"#)))
    };
    kafka.produce("grows", (0..100).map(message));
    let gateway = kafka.gateway("grows", &[]);
    wait_until(PATIENCE, "all rows", || gateway.rows("grows", &[]).len() == 100).unwrap();
    let mut follower = gateway.client(&["--topic", "grows", "--follow", "--limit", "150"]);
    let has_begun = || follower.stdout().lines().count() == 100;
    wait_until(PATIENCE, "the follower", has_begun).unwrap();
    kafka.produce("grows", (100..150).map(message));
    assert!(follower.wait_exit(PATIENCE).unwrap().success(), "{}", follower.stderr());
    let out = follower.stdout();
    let rows: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut numbers: Vec<_> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..150).collect::<Vec<_>>());
    let more = rows.iter().filter(|row| row["more"].is_string()).count();
    assert_eq!(more, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why() {
    let port = sheaf_testkit::free_port().unwrap().port();
    let nobody = format!("127.0.0.1:{port}");
    let serve = ["serve", "--port", "0", "--topics"];
    let start = |more: &[&str]| run(&[&serve[..], more].concat());
    let (code, _, error) = start(&["logs", "--brokers", &nobody]);
    assert_eq!(code, Some(7), "{error}");
    assert!(error.contains(&nobody), "{error}");
    let (code, _, error) = start(&["logs", "--batch-size", "0", "--start", "soon"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--batch-size") && error.contains("--start"), "{error}");
    let (code, _, error) = start(&["logs", "--kafka-option", "no.such=1"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("no.such"), "{error}");
    let (code, _, error) = start(&["logs", "--persist", "--libduckdb", "/nowhere/libduckdb.so"]);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("/nowhere/libduckdb.so") && error.contains("release page"), "{error}");
    let (code, _, error) = start(&["logs", "--kafka-option", "enable.auto.commit=true"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("stays off"), "{error}");
    if cfg!(not(feature = "ssl")) {
        let tls = ["logs", "--kafka-option", "security.protocol=SSL"];
        let (code, _, error) = start(&tls);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("--features ssl"), "{error}");
    }
    let Some(kafka) = Kafka::start() else { return };
    let (code, _, error) = start(&["missing", "--brokers", kafka.broker.bootstrap()]);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("missing") && error.contains("--topics"), "{error}");
}
