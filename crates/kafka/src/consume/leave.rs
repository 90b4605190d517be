//! The end of a member.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;

use super::context::GroupContext;

/// How long leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

/// Leaves the group, which takes as long as Kafka takes to answer what it was asked:
/// where that is too long, nobody waits for it.
pub(super) fn leave(consumer: Arc<BaseConsumer<GroupContext>>) {
    let (gone, is_gone) = std::sync::mpsc::sync_channel(1);
    let leaving = move || {
        drop(consumer);
        // Where it took too long, nobody listens.
        gone.send(()).unwrap_or_default();
    };
    let thread = std::thread::Builder::new().name("kafka-leave".to_owned()).spawn(leaving);
    if thread.is_err() || is_gone.recv_timeout(LEAVE).is_err() {
        tracing::warn!("Kafka does not answer: the group will miss this member and go on");
    }
}
