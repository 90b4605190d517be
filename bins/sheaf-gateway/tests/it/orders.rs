//! Messages of four partitions that gateways are killed over.

use std::time::Duration;

use sheaf_testkit::wait_until;

use crate::harness::{Gateway, Kafka, PATIENCE};

/// Whether the message of this number is no row.
pub(crate) fn is_poison(n: i64) -> bool {
    n % 500 == 13
}

fn message(n: i64) -> (i32, String, Option<String>) {
    let value = if is_poison(n) { format!("{{{n}") } else { format!(r#"{{"n":{n}}}"#) };
    (i32::try_from(n % 4).unwrap(), n.to_string(), Some(value))
}

/// Produces `each` messages under each gateway, which is killed at any moment, and
/// lets one read to the end at last; how many there were before four more, which all
/// are rows.
pub(crate) async fn kill_over(
    kafka: &Kafka,
    kills: u64,
    each: i64,
    start: impl Fn() -> Gateway,
) -> i64 {
    let mut produced = 0;
    for number in 0..kills {
        let mut gateway = start();
        kafka.produce("orders", (produced..produced + each).map(message));
        produced += each;
        // Where it is: joining, reading, writing, or done.
        // sleep: the moment is arbitrary, that is the point.
        tokio::time::sleep(Duration::from_millis(400 * (number % 10))).await;
        gateway.process.kill9().unwrap();
    }
    let mut gateway = start();
    // The last ones: when they are rows, all before them were read.
    let last = |partition: i64| {
        let number = i32::try_from(partition).unwrap();
        (number, String::new(), Some(format!(r#"{{"n":{}}}"#, produced + partition)))
    };
    kafka.produce("orders", (0..4).map(last));
    let condition = format!("n >= {produced}");
    let is_read = || gateway.rows("orders", &["--where", &condition]).len() == 4;
    wait_until(PATIENCE, "all to be read", is_read).unwrap();
    assert!(gateway.process.terminate(PATIENCE).unwrap().success());
    produced
}
