//! A gateway that runs and runs.

use std::time::{Duration, Instant};

use sheaf_testkit::{soak, wait_until};

use crate::harness::{Gateway, Kafka, PATIENCE};
use crate::stalled::{count, message, status};

const MB: u64 = 1_000_000;

/// Memory, descriptors and threads of a gateway.
fn use_of(gateway: &Gateway) -> [u64; 3] {
    let pid = gateway.process.pid();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    [status(pid, "RssAnon:"), u64::try_from(descriptors).unwrap(), status(pid, "Threads:")]
}

/// While rows come, are followed, asked for by clients that come and go, and
/// expire, it takes no more than it did at first.
#[tokio::test(flavor = "multi_thread")]
async fn soak_memory_descriptors_and_threads_stay_what_they_were() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("logs", 2).await;
    let gateway = kafka.gateway("logs", &["--ttl", "1s", "--metrics", "--metrics-addr", ":0"]);
    let follow = ["--topic", "logs", "--follow", "--columns", "n"];
    let mut produced = 0;
    let mut produce = || {
        kafka.produce("logs", (produced..produced + 500).map(|n| message(2, n)));
        produced += 500;
        usize::try_from(produced).unwrap()
    };
    let expired = || gateway.metric(r#"sheaf_stream_records_expired_total{topic="logs"}"#);
    let before = produce();
    wait_until(PATIENCE, "the first rows to expire", || expired() == 500).unwrap();
    let follower = gateway.client(&follow);
    let reads = || gateway.metric(r#"sheaf_stream_readers{topic="logs"}"#) == 1;
    wait_until(PATIENCE, "the follower to read", reads).unwrap();
    let lasts = Duration::from_secs(if soak() { 600 } else { 9 });
    // In each third of the time.
    let mut most = [[0; 3]; 3];
    let (begun, mut rows) = (Instant::now(), 0);
    while begun.elapsed() < lasts {
        let all = produce() - before;
        wait_until(PATIENCE, "the follower", || count(&follower) >= all).unwrap();
        rows += gateway.rows("logs", &["--limit", "10"]).len();
        let third = (3 * begun.elapsed().as_millis() / lasts.as_millis()).min(2);
        let of_third = &mut most[usize::try_from(third).unwrap()];
        for (most, now) in of_third.iter_mut().zip(use_of(&gateway)) {
            *most = now.max(*most);
        }
    }
    let [first, _, last] = most;
    assert!(last[0] <= first[0] + 16 * MB, "memory: {most:?}");
    assert!(last[1] <= first[1] + 4, "descriptors: {most:?}");
    assert!(last[2] <= first[2] + 4, "threads: {most:?}");
    assert!(expired() > 500 && rows > 0, "{} expired, {rows} were asked for", expired());
    assert_eq!(count(&follower) + before, usize::try_from(produced).unwrap());
}
