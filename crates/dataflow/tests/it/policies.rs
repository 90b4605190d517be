//! What happens when the reader is the slower one.

use std::fs;
use std::time::Duration;

use tokio::sync::watch;

use crate::cases::{Hosted, World, eventually};
use crate::parts::{Collect, Numbers, Written};
use crate::shapes::pipeline;

fn edge(more: &str) -> String {
    let sink = format!("id: out, kind: stdout, inputs: [{{from: numbers, {more}}}]");
    pipeline(&["numbers"], &[], &[&sink])
}

/// A sink that writes nothing until the gate is opened.
fn shut(world: &World, written: &Written) -> (Hosted, watch::Sender<bool>) {
    let (open, gate) = watch::channel(false);
    let all = written.clone();
    (world.host("out", move |_| Collect { gate, ..Collect::into(&all) }.boxed()), open)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_waits_for_credits_and_loses_nothing() {
    let world = World::new(&edge("credits: 4")).await;
    let written = Written::default();
    let (sink, open) = shut(&world, &written);
    let source = world.host("numbers", |start| Numbers::up_to(&start, 200, 1).boxed());
    // Four wait, four are on their way, one is with the sink.
    eventually("it waits", || async { source.sent("batches").await == 9 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(source.sent("batches").await, 9, "it goes no further");
    assert_eq!(source.sent("credits").await, 0);
    open.send(true).unwrap();
    source.done().await;
    sink.done().await;
    assert_eq!(written.numbers(), (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_oldest_keeps_the_newest_and_counts() {
    let world = World::new(&edge("policy: drop-oldest, credits: 4")).await;
    let written = Written::default();
    let (sink, open) = shut(&world, &written);
    eventually("the sink is there", || async { sink.stats().await["state"] == "running" }).await;
    let source = world.host("numbers", |start| {
        let numbers = Numbers::up_to(&start, 1_000, 1);
        Numbers { is_endless: true, ..numbers }.boxed()
    });
    eventually("the source is not held up", || async { source.sent("batches").await == 1_000 })
        .await;
    let dropped = source.sent("dropped").await;
    assert!(dropped >= 1_000 - 13, "{dropped}");
    open.send(true).unwrap();
    eventually("the rest is acknowledged", || async { source.sent("acknowledged").await == 1_000 })
        .await;
    let numbers = written.numbers();
    assert_eq!(numbers.len() as u64, 1_000 - dropped, "what was not dropped has come");
    assert!(numbers.is_sorted());
    assert_eq!(numbers[numbers.len() - 4..], [996, 997, 998, 999]);
    source.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spill_goes_to_disk_and_comes_back_in_order() {
    let mut world = World::new(&edge("policy: spill, spillLimit: 100MB")).await;
    // Room for about ten batches of 1,000 numbers in memory.
    world.options.retain_memory_bytes = 80_000;
    let written = Written::default();
    let (sink, open) = shut(&world, &written);
    let source = world.host("numbers", |start| Numbers::up_to(&start, 200_000, 1_000).boxed());
    eventually("the source is through", || async { source.sent("batches").await == 200 }).await;
    assert!(source.sent("memoryBytes").await <= 80_000);
    assert!(source.sent("diskBytes").await > 100 * 8_000);
    let folder = world.state_dir("numbers").join("streams/numbers.out.0");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    open.send(true).unwrap();
    source.done().await;
    sink.done().await;
    assert_eq!(written.numbers(), (0..200_000).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "what is done with takes no room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_limit_makes_it_wait() {
    let mut world = World::new(&edge("policy: spill, spillLimit: 100KB")).await;
    world.options.retain_memory_bytes = 20_000;
    let written = Written::default();
    let (sink, open) = shut(&world, &written);
    let source = world.host("numbers", |start| Numbers::up_to(&start, 200_000, 1_000).boxed());
    eventually("disk is used", || async { source.sent("diskBytes").await > 80_000 }).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let held = source.sent("batches").await;
    assert!(held < 20, "about fourteen of 8,000 bytes: {held}");
    assert!(source.sent("diskBytes").await <= 100_000);
    open.send(true).unwrap();
    source.done().await;
    sink.done().await;
    assert_eq!(written.numbers(), (0..200_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_acknowledges_goes_to_disk_and_comes_again_from_there() {
    let mut world = World::new(&edge("credits: 8")).await;
    world.options.retain_memory_bytes = 40_000;
    let silent = Written::default();
    let all = silent.clone();
    let first = world.host("out", move |_| {
        sheaf_dataflow::AnyComponent::Sink(Box::new(crate::parts::Silent { written: all }))
    });
    let source = world.host("numbers", |start| {
        let numbers = Numbers::up_to(&start, 100_000, 1_000);
        Numbers { is_endless: true, ..numbers }.boxed()
    });
    eventually("all was written", || async { silent.batches() == 100 }).await;
    assert_eq!(source.sent("unacknowledged").await, 100);
    assert!(source.sent("diskBytes").await > 0 && source.sent("memoryBytes").await <= 40_000);
    first.crash().await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let acknowledged = || async { source.sent("acknowledged").await == 100 };
    eventually("all is acknowledged", acknowledged).await;
    source.stop().await;
    sink.stop().await;
    assert_eq!(written.numbers(), (0..100_000).collect::<Vec<_>>());
    assert_eq!(written.sequences(), (1..=100).collect::<Vec<_>>(), "with the numbers they had");
}
