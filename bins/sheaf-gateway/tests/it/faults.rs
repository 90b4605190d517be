//! A database that refuses or is busy, a broker that is away, and deaths just then.

use std::time::{Duration, Instant};

use sheaf_testkit::{Fault, soak, wait_until_async};

use crate::database::{Commits, Sqlite};
use crate::harness::{Gateway, Kafka, PATIENCE};

const TOPIC: &str = "orders";

/// A gateway with a database, which reads through these brokers.
fn gateway(brokers: &str, database: &Sqlite) -> Gateway {
    let (target, session) = (database.target(), "session.timeout.ms=6000");
    let persist = ["--persist-to", &target, "--batch-size", "100", "--kafka-option", session];
    Gateway::start(brokers, TOPIC, &persist)
}

fn message(n: i64) -> (i32, String, Option<String>) {
    (i32::try_from(n % 2).unwrap(), n.to_string(), Some(format!(r#"{{"n":{n}}}"#)))
}

/// Until the table has so many rows; each is there once.
async fn wait_for_rows(database: &Sqlite, count: i64) {
    let is_there = async || database.rows(TOPIC).await.0 >= count;
    wait_until_async(PATIENCE, "the rows", is_there).await.unwrap();
    assert_eq!(database.rows(TOPIC).await, (count, count), "rows and their places");
}

/// Until the group has committed so much, of both partitions together.
async fn wait_for_commits(commits: &Commits, count: i64) {
    let is_there = async || commits.now().values().sum::<i64>() == count;
    wait_until_async(PATIENCE, "the commits", is_there).await.unwrap();
}

/// What comes after a batch that cannot be stored is not committed, however well
/// it could be stored; nothing is lost once it can be.
#[tokio::test(flavor = "multi_thread")]
async fn commits_stay_before_a_batch_that_is_refused_for_good() {
    let (Some(kafka), Some(database)) = (Kafka::start(), Sqlite::create().await) else { return };
    kafka.create(TOPIC, 2).await;
    kafka.produce(TOPIC, (0..100).map(message));
    let commits = Commits::of(&kafka, TOPIC, 2);
    let mut first = gateway(kafka.broker.bootstrap(), &database);
    wait_for_rows(&database, 100).await;
    wait_for_commits(&commits, 100).await;
    // A row that is refused, as is its dead letter: offset 350 of partition 0.
    let refuse = "SELECT RAISE(ABORT, 'not this one')";
    for (name, table, when) in
        [("a", TOPIC, "NEW.n = 700"), ("b", "orders_dead_letters", "NEW._offset = 350")]
    {
        if name == "b" {
            let columns = "error TEXT, value BLOB, _partition INTEGER, _offset INTEGER";
            database.execute(&format!("CREATE TABLE {table} ({columns})")).await;
        }
        let event = format!("BEFORE INSERT ON {table} WHEN {when}");
        database.execute(&format!("CREATE TRIGGER {name} {event} BEGIN {refuse}; END")).await;
    }
    kafka.produce(TOPIC, (100..2_000).map(message));
    assert_eq!(first.process.wait_exit(PATIENCE).unwrap().code(), Some(5));
    let error = first.process.stderr();
    assert!(error.contains("not this one") && error.contains("reading stops"), "{error}");
    let (stored, committed) = (database.positions().await, commits.now());
    assert_eq!(stored[&0], 350, "all before it, nothing behind it");
    for partition in 0..2 {
        assert!(committed[&partition] <= stored[&partition], "{committed:?}, {stored:?}");
    }
    for name in ["a", "b"] {
        database.execute(&format!("DROP TRIGGER {name}")).await;
    }
    let mut second = gateway(kafka.broker.bootstrap(), &database);
    wait_for_rows(&database, 2_000).await;
    wait_for_commits(&commits, 2_000).await;
    assert!(second.process.terminate(PATIENCE).unwrap().success());
}

/// Where the gateway is when it is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Partitions are assigned; the database has not said where they go on.
    Claim,
    /// Rows are in their stream, their transaction has not begun.
    Transaction,
    /// Rows are in the database, Kafka does not know it.
    Commit,
    /// All is done.
    Idle,
}

impl Moment {
    /// What the database is kept from until the gateway is there.
    fn lock(self) -> &'static str {
        match self {
            // Also from being read.
            Moment::Claim => "EXCLUSIVE",
            _ => "IMMEDIATE",
        }
    }
}

/// Killed between any two steps, every message is stored once.
#[tokio::test(flavor = "multi_thread")]
async fn soak_gateways_killed_between_their_steps_store_every_message_once() {
    let (Some(mut kafka), Some(database)) = (Kafka::start(), Sqlite::create().await) else {
        return;
    };
    kafka.create(TOPIC, 2).await;
    let commits = Commits::of(&kafka, TOPIC, 2);
    let (rounds, each) = (if soak() { 5 } else { 1 }, 400);
    let mut produced = 0;
    let mut produce = |kafka: &Kafka| {
        kafka.produce(TOPIC, (produced..produced + each).map(message));
        produced += each;
        produced
    };
    let says = |gateway: &mut Gateway, words: &str| {
        let is_said = |line: &str| line.contains(words).then_some(());
        gateway.process.wait_for_stderr_line(PATIENCE, is_said).unwrap();
    };
    let all = [Moment::Transaction, Moment::Claim, Moment::Commit, Moment::Idle];
    for moment in all.repeat(rounds) {
        let before = database.rows(TOPIC).await.0;
        let mut gateway = gateway(kafka.broker.bootstrap(), &database);
        let Some(lock) = database.lock(moment.lock()) else { return };
        let now = produce(&kafka);
        match moment {
            Moment::Claim => says(&mut gateway, "not known yet where to go on"),
            Moment::Transaction | Moment::Commit => says(&mut gateway, "not persisted yet"),
            Moment::Idle => {}
        }
        if let Moment::Commit = moment {
            kafka.broker.process().unwrap().pause().unwrap();
        }
        if let Moment::Commit | Moment::Idle = moment {
            drop(lock);
            wait_for_rows(&database, now).await;
        }
        if let Moment::Idle = moment {
            wait_for_commits(&commits, now).await;
        }
        gateway.process.kill9().unwrap();
        kafka.broker.process().unwrap().resume().unwrap();
        let (after, committed) = (database.rows(TOPIC).await.0, commits.now());
        let committed: i64 = committed.values().sum();
        assert!(committed <= after, "{moment:?}: {committed} committed, {after} stored");
        match moment {
            Moment::Claim | Moment::Transaction => assert_eq!(after, before, "{moment:?}"),
            Moment::Commit => assert!(committed < now, "{moment:?}: {committed} of {now}"),
            Moment::Idle => assert_eq!((after, committed), (now, now)),
        }
    }
    let now = produce(&kafka);
    let mut gateway = gateway(kafka.broker.bootstrap(), &database);
    wait_for_rows(&database, now).await;
    wait_for_commits(&commits, now).await;
    assert!(gateway.process.terminate(PATIENCE).unwrap().success());
    let sums = database.numbers("SELECT sum(n), count(DISTINCT n) FROM orders").await;
    assert_eq!(sums, [[now * (now - 1) / 2, now]]);
}

/// A broker that is away for a while, or silent, costs time and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn soak_gateways_go_on_where_a_broker_was_away() {
    let (Some((kafka, proxy)), Some(database)) =
        (Kafka::start_behind_proxy(), Sqlite::create().await)
    else {
        return;
    };
    kafka.create(TOPIC, 2).await;
    let commits = Commits::of(&kafka, TOPIC, 2);
    let away = Duration::from_secs(if soak() { 30 } else { 5 });
    let mut gateway = gateway(kafka.broker.bootstrap(), &database);
    let mut produced = 0;
    for fault in [Fault::Cut, Fault::Silent] {
        let each = 1_000;
        kafka.produce(TOPIC, (produced..produced + each).map(message));
        produced += each;
        wait_for_rows(&database, produced).await;
        proxy.set(fault);
        let begun = Instant::now();
        while begun.elapsed() < away {
            assert!(
                !gateway.rows(TOPIC, &["--limit", "1"]).is_empty(),
                "{fault:?}: rows are served"
            );
            // sleep: as long as it is away.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        proxy.set(Fault::None);
    }
    kafka.produce(TOPIC, (produced..produced + 500).map(message));
    produced += 500;
    wait_for_rows(&database, produced).await;
    wait_for_commits(&commits, produced).await;
    // Nobody is there to take its last offsets: it ends all the same.
    let Some(lock) = database.lock("IMMEDIATE") else { return };
    kafka.produce(TOPIC, (produced..produced + 500).map(message));
    let waits = |line: &str| line.contains("not persisted yet").then_some(());
    gateway.process.wait_for_stderr_line(PATIENCE, waits).unwrap();
    proxy.set(Fault::Silent);
    drop(lock);
    wait_for_rows(&database, produced + 500).await;
    assert!(gateway.process.terminate(PATIENCE).unwrap().success(), "{}", gateway.process.stderr());
}
