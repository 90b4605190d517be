//! Members of a group that come, go and are thrown out, all the time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCoordinator;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sheaf_connectors::AdbcTables;
use sheaf_kafka::Gateway;
use sheaf_testkit::{soak, wait_for_async};

use crate::group::{Group, PATIENCE, Produced, TOPIC};

const BROKERS: i32 = 3;
const SEED: u64 = 11;

/// The same numbers from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % limit
    }
}

/// What the group committed, each time somebody looked.
#[derive(Default)]
struct Watch {
    committed: Mutex<BTreeMap<i32, i64>>,
    looked: AtomicU64,
}

impl Watch {
    /// Never back, and never ahead of what is in the database.
    async fn look(&self, group: &Group, tables: &AdbcTables) {
        let Some(committed) = group.committed() else { return };
        // Read after: what is stored only grows.
        let stored = tables.positions().await.unwrap();
        for (partition, offset) in committed {
            let known = self.committed.lock().unwrap().insert(partition, offset);
            assert!(known <= Some(offset), "{partition}: {known:?}, then {offset}: after a revoke");
            let durable = stored.iter().find(|one| one.partition == partition);
            let durable = durable.map(|one| one.next_offset);
            assert!(Some(offset) <= durable, "{partition}: {offset} committed, {durable:?} stored");
        }
        self.looked.fetch_add(1, Ordering::Relaxed);
    }
}

/// Something that happens to a group.
async fn happens(
    group: &Group,
    seats: &mut [Option<Gateway>; 3],
    properties: &[(&str, &str)],
    random: &mut Random,
) -> &'static str {
    use RDKafkaRespErr as E;
    let cluster = &group.cluster;
    let seat = usize::try_from(random.below(3)).unwrap();
    match random.below(8) {
        0 | 1 => match seats[seat].take() {
            Some(gateway) => {
                gateway.stop().await;
                "a member left"
            }
            None => {
                seats[seat] = Some(group.member(properties).await);
                "a member came"
            }
        },
        2 => {
            let unknown = [E::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID];
            cluster.request_errors(RDKafkaApiKey::Heartbeat, &unknown);
            "a member was thrown out"
        }
        3 => {
            let old = [E::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION; 2];
            cluster.request_errors(RDKafkaApiKey::OffsetCommit, &old);
            "commits of an old generation"
        }
        4 => {
            let busy = [
                E::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS,
                E::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
            ];
            cluster.request_errors(RDKafkaApiKey::OffsetCommit, &busy);
            cluster.request_errors(RDKafkaApiKey::JoinGroup, &busy[1..]);
            "a busy coordinator"
        }
        5 => {
            let moved = [E::RD_KAFKA_RESP_ERR_NOT_COORDINATOR];
            cluster.request_errors(RDKafkaApiKey::Heartbeat, &moved);
            let broker = 1 + i32::try_from(random.below(3)).unwrap();
            cluster.coordinator(MockCoordinator::Group("storm".into()), broker).unwrap();
            "another coordinator"
        }
        6 => {
            let broker = 1 + i32::try_from(random.below(3)).unwrap();
            cluster.broker_down(broker).unwrap();
            pause(300).await;
            cluster.broker_up(broker).unwrap();
            "a broker was away"
        }
        _ => {
            let leader = [E::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3];
            cluster.request_errors(RDKafkaApiKey::Fetch, &leader);
            cluster.partition_leader(TOPIC, 0, Some(1 + i32::try_from(seat).unwrap())).unwrap();
            "another leader"
        }
    }
}

async fn pause(milliseconds: u64) {
    // sleep: the storm has a pace, nothing is waited for.
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

async fn storm(strategy: &str, rounds: u64) {
    let Some(group) = Group::start(BROKERS, 6).await else { return };
    let tables = group.tables().await;
    let properties = [("partition.assignment.strategy", strategy)];
    let mut seats = [const { None }; 3];
    for seat in &mut seats {
        *seat = Some(group.member(&properties).await);
    }
    let (mut random, mut produced) = (Random(SEED), Produced::default());
    let watch = Watch::default();
    let mut did = Vec::new();
    for _ in 0..rounds {
        group.produce(&mut produced, 600);
        did.push(happens(&group, &mut seats, &properties, &mut random).await);
        let until = Instant::now() + Duration::from_millis(300 + random.below(1_500));
        while Instant::now() < until {
            watch.look(&group, &tables).await;
            pause(20).await;
        }
    }
    for key in [RDKafkaApiKey::Heartbeat, RDKafkaApiKey::OffsetCommit, RDKafkaApiKey::Fetch] {
        group.cluster.clear_request_errors(key);
    }
    for seat in &mut seats {
        if seat.as_ref().is_none_or(|gateway| gateway.ended().is_cancelled()) {
            assert!(seat.is_none(), "{strategy}: a member gave up: {did:?}");
            *seat = Some(group.member(&properties).await);
        }
    }
    let all = async || {
        watch.look(&group, &tables).await;
        (group.rows().await >= produced.next).then_some(())
    };
    let read = wait_for_async(PATIENCE, "all messages to be stored", all).await;
    assert!(
        read.is_ok(),
        "{strategy}, seed {SEED}: {} of {}: {did:?}",
        group.rows().await,
        produced.next
    );
    group.check(&produced).await;
    let ends = async || {
        watch.look(&group, &tables).await;
        let sum: i64 = watch.committed.lock().unwrap().values().sum();
        (sum == produced.next).then_some(())
    };
    wait_for_async(PATIENCE, "all to be committed", ends).await.unwrap();
    let looked = watch.looked.into_inner();
    assert!(looked > rounds / 2, "{strategy}: looked {looked} times");
    for gateway in seats.into_iter().flatten() {
        gateway.stop().await;
    }
    group.check(&produced).await;
}

/// Whoever reads: each message is stored once, nothing is committed that is not
/// stored, and nothing of a partition that is somebody else's.
#[tokio::test(flavor = "multi_thread")]
async fn soak_storm_of_rebalances_stores_every_message_once() {
    storm("range", if soak() { 80 } else { 12 }).await;
}

/// The same where partitions move one by one.
#[tokio::test(flavor = "multi_thread")]
async fn soak_storm_of_cooperative_rebalances_stores_every_message_once() {
    storm("cooperative-sticky", if soak() { 80 } else { 12 }).await;
}
