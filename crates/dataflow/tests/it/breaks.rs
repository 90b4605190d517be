//! Readers and senders that go and come back: nothing is lost, and nothing is acknowledged early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sheaf_dataflow::AnyComponent;
use sheaf_retry::{Code, Retryable as _};
use tokio::sync::watch;

use crate::cases::{World, eventually};
use crate::parts::{Collect, Numbers, Pass, Silent, Sum, Written, sum};
use crate::shapes::pipeline;

const OUT: &str = "id: out, kind: stdout, inputs: [numbers]";
const FILTER: &str = "id: filter, kind: filter, config: {where: 'n >= 0'}, inputs: [numbers]";

fn endless(
    counter: &Arc<AtomicU64>,
    end: i64,
) -> impl FnOnce(sheaf_dataflow::Start) -> AnyComponent + Send + use<> {
    let acknowledged = Arc::clone(counter);
    move |start| {
        let numbers = Numbers::up_to(&start, end, 1);
        Numbers { acknowledged, is_endless: true, ..numbers }.boxed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_dies_between_write_and_acknowledgement_gets_it_again() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let source = world.host("numbers", |start| Numbers::up_to(&start, 300, 1).boxed());
    let first = Written::default();
    let all = first.clone();
    let silent = world.host("out", move |_| AnyComponent::Sink(Box::new(Silent { written: all })));
    eventually("some were written", || async { first.batches() >= 40 }).await;
    assert_eq!(source.sent("acknowledged").await, 0);
    silent.crash().await;
    let second = Written::default();
    let all = second.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    source.done().await;
    sink.done().await;
    assert_eq!(second.numbers(), (0..300).collect::<Vec<_>>(), "all of it, in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_was_not_acknowledged_comes_again() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let acknowledged = Arc::default();
    let source = world.host("numbers", endless(&acknowledged, 100));
    let first = Written::default();
    let all = first.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    eventually("all is acknowledged", || async { source.sent("acknowledged").await == 100 }).await;
    sink.crash().await;
    eventually("it is offset 100", || async { acknowledged.load(Ordering::SeqCst) == 100 }).await;
    let second = Written::default();
    let all = second.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    eventually("it is connected", || async { source.sent("connections").await == 2 }).await;
    assert_eq!(source.sent("unacknowledged").await, 0);
    source.stop().await;
    sink.stop().await;
    assert_eq!((first.batches(), second.batches()), (100, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_the_sink_has_written() {
    let world = World::new(&pipeline(
        &["numbers"],
        &[FILTER],
        &["id: out, kind: stdout, inputs: [filter]"],
    ))
    .await;
    let acknowledged = Arc::default();
    let written = Written::default();
    let (open, gate) = watch::channel(false);
    let all = written.clone();
    let sink = world.host("out", move |_| Collect { gate, ..Collect::into(&all) }.boxed());
    let filter = world.host("filter", |_| Pass::boxed());
    let source = world.host("numbers", endless(&acknowledged, 20));
    eventually("all is with the sink", || async { filter.sent("batches").await == 20 }).await;
    eventually("one was given to it", || async {
        filter.sent("waiting").await == 0 && source.sent("waiting").await == 0
    })
    .await;
    // Long enough for any acknowledgement to come through.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((source.sent("acknowledged").await, filter.sent("acknowledged").await), (0, 0));
    assert_eq!(acknowledged.load(Ordering::SeqCst), 0);
    assert!(!world.state_dir("numbers").join("offset").exists());
    open.send(true).unwrap();
    eventually("all is acknowledged", || async {
        // It never runs ahead of what was written.
        let seen = acknowledged.load(Ordering::SeqCst);
        assert!(seen <= written.batches() as u64, "{seen}");
        seen == 20
    })
    .await;
    source.stop().await;
    filter.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffering_sink_is_flushed_when_it_rests() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let acknowledged = Arc::default();
    let written = Written::default();
    let all = written.clone();
    let sink =
        world.host("out", move |_| Collect { is_buffered: true, ..Collect::into(&all) }.boxed());
    let source = world.host("numbers", endless(&acknowledged, 20));
    eventually("it is flushed", || async { acknowledged.load(Ordering::SeqCst) == 20 }).await;
    source.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_dies_begins_anew_with_all_that_it_had() {
    let filter =
        FILTER.replace("filter, config: {where: 'n >= 0'}", "filter, config: {where: 'n >= 0'}");
    let world = World::new(&pipeline(
        &["numbers"],
        &[&filter],
        &["id: out, kind: stdout, inputs: [filter]"],
    ))
    .await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let sums = || AnyComponent::Processor(Box::<Sum>::default());
    let first = world.host("filter", move |_| sums());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 1_000, 1).boxed());
    eventually("it has some", || async { source.sent("lastSequence").await > 200 }).await;
    first.crash().await;
    let second = world.host("filter", move |_| sums());
    source.done().await;
    second.done().await;
    sink.done().await;
    assert_eq!(written.numbers(), [(0..1_000).sum::<i64>()], "the whole sum, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_dies_goes_on_where_all_was_acknowledged() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| {
        Collect { delay: Duration::from_millis(1), ..Collect::into(&all) }.boxed()
    });
    let first = world.host("numbers", |start| Numbers::up_to(&start, 1_500, 1).boxed());
    eventually("an offset is written down", || async {
        world.state_dir("numbers").join("offset").exists()
    })
    .await;
    first.crash().await;
    let begun = Arc::new(AtomicU64::new(0));
    let at = Arc::clone(&begun);
    let second = world.host("numbers", move |start| {
        let numbers = Numbers::up_to(&start, 1_500, 1);
        at.store(u64::try_from(numbers.next).unwrap(), Ordering::SeqCst);
        numbers.boxed()
    });
    second.done().await;
    sink.done().await;
    assert!(begun.load(Ordering::SeqCst) > 0, "not from the beginning");
    let mut numbers = written.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(sum(numbers), sum(0..1_500), "nothing is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_stopped_has_drained_and_goes_on_without_a_row_twice() {
    let mut world = World::new(&pipeline(
        &["numbers"],
        &[FILTER],
        &["id: out, kind: stdout, inputs: [filter]"],
    ))
    .await;
    let written = Written::default();
    for run in 1..=2 {
        world.run = run;
        let all = written.clone();
        let sink = world.host("out", move |_| {
            let delay = Duration::from_millis(1);
            Collect { is_buffered: true, delay, ..Collect::into(&all) }.boxed()
        });
        let filter = world.host("filter", |_| Pass::boxed());
        let source = world.host("numbers", |start| Numbers::up_to(&start, 800, 1).boxed());
        if run == 1 {
            eventually("half way", || async { written.batches() > 200 }).await;
            source.stop().await;
            filter.stop().await;
            sink.stop().await;
            assert!(written.batches() < 800, "the source was stopped on its way");
        } else {
            source.done().await;
            filter.done().await;
            sink.done().await;
        }
    }
    assert_eq!(written.numbers(), (0..800).collect::<Vec<_>>(), "each once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lost_its_place_ends_and_writes_no_more() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let source = world.host("numbers", |start| Numbers::up_to(&start, 100, 1).boxed());
    // It hangs in a write: for the control plane it is as good as dead.
    let (first, second) = (Written::default(), Written::default());
    let (_shut, gate) = watch::channel(false);
    let all = first.clone();
    let hung = world.host("out", move |_| Collect { gate, ..Collect::into(&all) }.boxed());
    eventually("it hangs", || async { source.sent("connections").await == 1 }).await;
    let all = second.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let error = hung.ended().await.unwrap_err();
    assert_eq!((error.code(), error.exit_code()), (Code::StaleFence, 1));
    source.done().await;
    sink.done().await;
    assert_eq!((first.batches(), second.numbers()), (0, (0..100).collect::<Vec<_>>()));
}
