//! Components that are started anew while the others go on, as a reload does it.

use tokio::sync::watch;

use crate::cases::{World, eventually};
use crate::parts::{Collect, Numbers, Written};
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
async fn a_reader_that_is_started_again_does_not_wait_for_a_sender_that_is_done() {
    let out = "id: out, kind: stdout, inputs: [short, long]";
    let world = World::new(&pipeline(&["short", "long"], &[], &[out])).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let long = world.host("long", |start| {
        Numbers { is_endless: true, ..Numbers::up_to(&start, 50, 1) }.boxed()
    });
    world.host("short", |start| Numbers::up_to(&start, 10, 1).boxed()).done().await;
    sink.stop().await;
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    eventually("all of it", || async { written.batches() == 60 }).await;
    long.stop().await;
    world.host("long", |start| Numbers::up_to(&start, 50, 1).boxed()).done().await;
    // It would wait for the short one for good.
    sink.done().await;
    let mut numbers = written.numbers();
    numbers.sort_unstable();
    let mut expected: Vec<i64> = (0..50).chain(0..10).collect();
    expected.sort_unstable();
    assert_eq!(numbers, expected, "each once");
}
