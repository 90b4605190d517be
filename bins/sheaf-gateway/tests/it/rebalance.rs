//! Three gateways of one group, some of which always go, die or freeze.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sheaf_testkit::{soak, wait_until_async};

use crate::database::{Commits, Sqlite};
use crate::harness::{Gateway, Kafka, PATIENCE};

const PARTITIONS: i64 = 6;
/// How long a member may be silent.
const SESSION: Duration = Duration::from_secs(6);

fn member(kafka: &Kafka, database: &Sqlite) -> Gateway {
    let target = database.target();
    // The last one is how long the broker waits for members that do not join again.
    let options =
        ["session.timeout.ms=6000", "heartbeat.interval.ms=500", "max.poll.interval.ms=10000"];
    let options = options.iter().flat_map(|option| ["--kafka-option", option]);
    let arguments: Vec<_> = ["--persist-to", &target].into_iter().chain(options).collect();
    kafka.gateway("orders", &arguments)
}

fn message(n: i64) -> (i32, String, Option<String>) {
    (i32::try_from(n % PARTITIONS).unwrap(), n.to_string(), Some(format!(r#"{{"n":{n}}}"#)))
}

/// Until it is told to stop: that nothing is committed that is not stored, and
/// that no commit goes back. How often it looked.
async fn watch(commits: Commits, database: Arc<Sqlite>, stop: Arc<AtomicBool>) -> u32 {
    let mut known: BTreeMap<i64, i64> = BTreeMap::new();
    let commits = Arc::new(commits);
    let mut looked = 0;
    while !stop.load(Ordering::Relaxed) {
        let asked = Arc::clone(&commits);
        let committed = tokio::task::spawn_blocking(move || asked.now()).await.unwrap();
        // Read after: what is stored only grows.
        let stored = database.positions().await;
        for (partition, offset) in committed.into_iter().filter(|_| !stored.is_empty()) {
            let before = known.insert(partition, offset);
            assert!(before <= Some(offset), "{partition}: {before:?}, then {offset}");
            let durable = stored.get(&partition).copied();
            assert!(Some(offset) <= durable, "{partition}: {offset} committed, {durable:?} stored");
            looked += 1;
        }
        // sleep: a look now and then.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    looked
}

/// How often a member got partitions.
fn came(seat: &Gateway) -> usize {
    seat.process.stderr().matches("partitions came").count()
}

/// Waits for so many rows.
async fn is_read(database: &Sqlite, count: i64, seats: &[Gateway]) {
    let enough = async || database.rows("orders").await.0 >= count;
    let waited = wait_until_async(2 * PATIENCE, "rows", enough).await;
    let logs = seats.iter().map(|seat| seat.process.stderr()).collect::<Vec<_>>().join("\n---\n");
    let rows = database.rows("orders").await;
    assert!(waited.is_ok(), "{rows:?} of {count}: {:?}\n{logs}", database.positions().await);
}

/// Whoever reads: each message is stored once, and committed after that.
#[tokio::test(flavor = "multi_thread")]
async fn soak_members_that_stop_die_and_freeze_store_every_message_once() {
    let (Some(kafka), Some(database)) = (Kafka::start(), Sqlite::create().await) else { return };
    let database = Arc::new(database);
    kafka.create("orders", 6).await;
    let (rounds, each) = if soak() { (30, 3_000) } else { (3, 1_800) };
    let stop = Arc::new(AtomicBool::new(false));
    let commits = Commits::of(&kafka, "orders", 6);
    let watching = tokio::spawn(watch(commits, Arc::clone(&database), Arc::clone(&stop)));
    let mut seats = [0; 3].map(|_| member(&kafka, &database));
    let mut produced = 0;
    let mut produce = || {
        kafka.produce("orders", (produced..produced + each).map(message));
        produced += each;
        produced
    };
    let first = produce();
    is_read(&database, first, &seats).await;
    for round in 0..rounds {
        let seat = round % 3;
        let now = produce();
        if seat == 1 {
            // Whoever freezes in a transaction of SQLite has all others wait.
            is_read(&database, now, &seats).await;
        }
        match seat {
            0 => drop(seats[seat].process.kill9().unwrap()),
            1 => {
                seats[seat].process.pause().unwrap();
                // sleep: longer than the others wait for it.
                tokio::time::sleep(SESSION + Duration::from_secs(2)).await;
                let now = produce();
                is_read(&database, now, &seats).await;
                let before = came(&seats[seat]);
                seats[seat].process.resume().unwrap();
                // Where the next one leaves while this one comes back, Tansu gives nobody
                // partitions any more.
                let is_back = async || came(&seats[seat]) > before;
                wait_until_async(2 * PATIENCE, "it to be back", is_back).await.unwrap();
            }
            _ => assert!(seats[seat].process.terminate(PATIENCE).unwrap().success()),
        }
        produce();
        if seat != 1 {
            seats[seat] = member(&kafka, &database);
        }
    }
    let all = produce();
    is_read(&database, all, &seats).await;
    let ends = async || Commits::of(&kafka, "orders", 6).now().values().sum::<i64>() == all;
    wait_until_async(PATIENCE, "all to be committed", ends).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert!(watching.await.unwrap() > 10, "committed offsets were hardly looked at");
    for seat in &mut seats {
        assert!(seat.process.terminate(PATIENCE).unwrap().success(), "{}", seat.process.stderr());
    }
    assert_eq!(database.rows("orders").await, (all, all), "rows and their places");
    let sums = database.numbers("SELECT sum(n), count(DISTINCT n) FROM orders").await;
    assert_eq!(sums, [[all * (all - 1) / 2, all]]);
}
