//! Offsets that Kafka does not take at once.

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sheaf_testkit::wait_until_async;

use crate::group::{Group, PATIENCE, Produced};

/// A commit that was refused is tried again, though nothing more is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_committed_is_committed_later_by_itself() {
    let Some(group) = Group::start(1, 2).await else { return };
    let refused = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN; 2];
    group.cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refused);
    let mut produced = Produced::default();
    // One chunk of each partition: one commit.
    group.produce(&mut produced, 300);
    let gateway = group.member(&[]).await;
    let is_stored = async || group.rows().await == 300;
    wait_until_async(PATIENCE, "all rows", is_stored).await.unwrap();
    let is_committed = async || {
        let committed = group.committed().unwrap_or_default();
        committed.values().sum::<i64>() == 300
    };
    wait_until_async(PATIENCE / 6, "the commit", is_committed).await.unwrap();
    gateway.stop().await;
    group.check(&produced).await;
}
