//! Components that are started anew while the others go on, as a reload does it.

use std::time::Duration;

use tokio::sync::watch;

use crate::cases::{World, eventually};
use crate::parts::{Collect, Numbers, Pass, Written};
use crate::shapes::pipeline;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_stopped_while_one_reader_is_full_gives_no_other_reader_a_row_twice() {
    let quick = "id: quick, kind: stdout, inputs: [numbers]";
    let full = "id: full, kind: stdout, inputs: [{from: numbers, credits: 2}]";
    let world = World::new(&pipeline(&["numbers"], &[], &[quick, full])).await;
    let (open, gate) = watch::channel(false);
    let (first, second) = (Written::default(), Written::default());
    let (quick, full) = (first.clone(), second.clone());
    let quick = world.host("quick", move |_| Collect::into(&quick).boxed());
    let full = world.host("full", move |_| Collect { gate, ..Collect::into(&full) }.boxed());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 300, 1).boxed());
    // What the quick one has, the source has made; the last of it waits for the full one.
    let mut before = 0;
    eventually("the source to wait", || {
        let now = first.batches();
        let waits = now >= 5 && now == before;
        before = now;
        async move { waits }
    })
    .await;
    let stopped = tokio::spawn(source.stop());
    open.send(true).unwrap();
    stopped.await.unwrap();
    let made = first.batches();
    assert!(made < 300, "it was stopped on its way");
    let source = world.host("numbers", |start| Numbers::up_to(&start, 300, 1).boxed());
    source.done().await;
    quick.done().await;
    full.done().await;
    assert_eq!(first.numbers(), (0..300).collect::<Vec<_>>(), "each once, in order");
    assert_eq!(second.numbers(), (0..300).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_started_again_does_not_wait_for_senders_that_are_done() {
    let filter = "id: filter, kind: filter, config: {where: 'n >= 0'}, inputs: [numbers]";
    let out = "id: out, kind: stdout, inputs: [filter, numbers]";
    let world = World::new(&pipeline(&["numbers"], &[filter], &[out])).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let filter = world.host("filter", |_| Pass::boxed());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 10, 1).boxed());
    source.done().await;
    filter.done().await;
    sink.done().await;
    // As where it ended badly after its last word, and is started again.
    let all = written.clone();
    world.host("out", move |_| Collect::into(&all).boxed()).done().await;
    world.host("filter", |_| Pass::boxed()).done().await;
    assert_eq!(written.batches(), 20, "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_has_ended_and_is_stopped_waits_until_all_is_acknowledged() {
    let slow = "id: slow, kind: stdout, inputs: [numbers]";
    let world = World::new(&pipeline(&["numbers"], &[], &[slow])).await;
    let (open, gate) = watch::channel(false);
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("slow", move |_| Collect { gate, ..Collect::into(&all) }.boxed());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 8, 1).boxed());
    eventually("it has made all", || async { source.sent("batches").await == 8 }).await;
    let stopped = tokio::spawn(source.stop());
    // sleep: nothing is to happen meanwhile.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!stopped.is_finished(), "its reader has acknowledged nothing");
    open.send(true).unwrap();
    stopped.await.unwrap();
    world.host("numbers", |start| Numbers::up_to(&start, 8, 1).boxed()).done().await;
    sink.done().await;
    assert_eq!(written.numbers(), (0..8).collect::<Vec<_>>(), "each once");
}
