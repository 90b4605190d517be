//! Where a new group begins.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sheaf_testkit::wait_until;

use crate::database::Commits;
use crate::harness::{Gateway, Kafka, PATIENCE};

/// Sends numbers, all of this time, to both partitions of a topic.
fn produce(kafka: &Kafka, numbers: std::ops::Range<i64>, time: Duration) {
    let millis = i64::try_from(time.as_millis()).unwrap();
    let producer: BaseProducer = kafka.config().create().unwrap();
    for n in numbers {
        let (partition, value) = (i32::try_from(n % 2).unwrap(), format!(r#"{{"n":{n}}}"#));
        let record = BaseRecord::<(), _>::to("logs").partition(partition).timestamp(millis);
        producer.send(record.payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Waits for these numbers, and no others.
fn expect(gateway: &Gateway, expected: std::ops::Range<i64>) {
    let read = || {
        let rows = gateway.rows("logs", &["--columns", "n"]);
        let mut numbers: Vec<_> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    let expected: Vec<i64> = expected.collect();
    let waited = wait_until(PATIENCE, "the rows", || read().len() >= expected.len());
    assert!(waited.is_ok() && read() == expected, "{:?}", read());
}

const ANY: Duration = Duration::from_secs(1_700_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn latest_is_what_comes_after_the_first_start_also_at_the_second() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 2).await;
    produce(&kafka, 0..100, ANY);
    let start = || kafka.gateway("logs", &["--start", "latest"]);
    let mut first = start();
    let has_come = |line: &str| line.contains("begun partitions=2").then_some(());
    first.process.wait_for_stderr_line(PATIENCE, has_come).unwrap();
    // Killed before anything came: the place of the first start is kept.
    let commits = Commits::of(&kafka, "logs", 2);
    let is_kept = || commits.now().values().sum::<i64>() == 100;
    wait_until(PATIENCE, "the place", is_kept).unwrap();
    first.process.kill9().unwrap();
    produce(&kafka, 100..150, ANY);
    let second = start();
    expect(&second, 100..150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_the_first_message_of_that_time() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 2).await;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    produce(&kafka, 0..100, now());
    let time = now().as_secs() + 2;
    // Until this second has begun.
    let has_come = || now().as_secs() >= time;
    wait_until(PATIENCE, "a later second", has_come).unwrap();
    produce(&kafka, 100..150, now());
    let date = ["-u", "-d", &format!("@{time}"), "+%Y-%m-%dT%H:%M:%SZ"];
    let text = Command::new("date").args(date).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    let gateway = kafka.gateway("logs", &["--start", text.trim()]);
    expect(&gateway, 100..150);
}
