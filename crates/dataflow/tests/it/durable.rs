//! Durable edges: every shape, every row once; failures; ends; several runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::{Control, Coordinator as _, State};
use sheaf_dataflow::{
    AnyComponent, Assignment, ComponentError, Outcome, Processor, Received, Sink,
};
use sheaf_retry::Code;

use crate::cases::{World, eventually, free_address};
use crate::crash::Slowly;
use crate::node::{Node, answers};
use crate::parts::{Numbers, Pass, Sum, numbers, sum};
use crate::shapes::pipeline;

pub(crate) const FILTER: &str = "kind: filter, config: {where: 'n >= 0'}";

/// A world all of whose edges are durable.
pub(crate) async fn world(text: &str, node: &Node) -> World {
    let text = text.replace("metadata:", "durable: true\nmetadata:");
    mixed(&text, node).await
}

/// A world with a node.
async fn mixed(text: &str, node: &Node) -> World {
    answers(node).await;
    let mut world = World::new(text).await;
    world.durable = Some(node.assignment());
    world
}

/// A place that takes each batch once, by its identifier, as files and tables do.
#[derive(Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    batches: Vec<Vec<i64>>,
    fences: BTreeMap<String, u64>,
}

impl Place {
    /// Whether it is new.
    fn commit(&self, received: &Received) -> bool {
        let lease = received.lease.as_ref().expect("it came over a durable edge");
        let mut taken = self.0.lock().unwrap();
        if let Some(before) = taken.fences.insert(lease.id.to_string(), lease.fence) {
            assert!(before < lease.fence, "a fence that goes back");
            return false;
        }
        taken.batches.push(numbers(&received.batch));
        true
    }

    pub(crate) fn numbers(&self) -> Vec<i64> {
        self.0.lock().unwrap().batches.concat()
    }

    pub(crate) fn sum(&self) -> (usize, u64) {
        sum(self.numbers())
    }

    pub(crate) fn batches(&self) -> usize {
        self.0.lock().unwrap().batches.len()
    }
}

/// Commits into a place.
pub(crate) struct Once {
    pub(crate) place: Place,
    pub(crate) delay: Duration,
    given: u64,
}

impl Once {
    pub(crate) fn into(place: &Place) -> Self {
        Once { place: place.clone(), delay: Duration::ZERO, given: 0 }
    }

    pub(crate) fn boxed(self) -> AnyComponent {
        AnyComponent::Sink(Box::new(self))
    }
}

#[async_trait]
impl Sink for Once {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if !self.delay.is_zero() {
            // sleep: it is what makes the sink slow.
            tokio::time::sleep(self.delay).await;
        }
        self.place.commit(received);
        self.given += 1;
        Ok(self.given)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.given)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linear_keeps_the_order() {
    let node = Node::start();
    let filter = format!("id: filter, {FILTER}, inputs: [numbers]");
    let text = pipeline(&["numbers"], &[&filter], &["id: out, kind: stdout, inputs: [filter]"]);
    let world = world(&text, &node).await;
    let place = Place::default();
    let all = place.clone();
    let sink = world.host("out", move |_| Once::into(&all).boxed());
    let filter = world.host("filter", |_| Pass::boxed());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 10_000, 50).boxed());
    source.done().await;
    filter.done().await;
    sink.done().await;
    assert_eq!(place.numbers(), (0..10_000).collect::<Vec<_>>(), "each once, in order");
    assert!(node.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_out_and_fan_in_give_everything_once_to_each() {
    let node = Node::start();
    let sinks = [
        "id: fast, kind: stdout, inputs: [low, high]",
        "id: slow, kind: stdout, inputs: [high, low]",
    ];
    let world = world(&pipeline(&["low", "high"], &[], &sinks), &node).await;
    let (fast, slow) = (Place::default(), Place::default());
    let (one, other) = (fast.clone(), slow.clone());
    let sinks = [
        world.host("fast", move |_| Once::into(&one).boxed()),
        world.host("slow", move |_| {
            Once { delay: Duration::from_millis(3), ..Once::into(&other) }.boxed()
        }),
    ];
    let sources = [
        world.host("low", |start| Numbers::up_to(&start, 2_000, 20).boxed()),
        world.host("high", |start| {
            let numbers = Numbers::up_to(&start, 5_000, 20);
            Numbers { next: numbers.next.max(2_000), ..numbers }.boxed()
        }),
    ];
    for one in sources.into_iter().chain(sinks) {
        one.done().await;
    }
    for place in [fast, slow] {
        assert_eq!(place.sum(), sum(0..5_000));
    }
    assert!(node.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamond_with_replicas_and_a_slow_sink_gives_everything_once() {
    let node = Node::start();
    let left = format!(
        "id: left, {FILTER}, replicas: 2, inputs: [{{from: numbers, partitioning: {{hash: [n]}}}}]"
    );
    let right = format!("id: right, {FILTER}, replicas: 3, inputs: [numbers]");
    let out = "id: out, kind: stdout, inputs: [left, right]";
    let world = world(&pipeline(&["numbers"], &[&left, &right], &[out]), &node).await;
    let place = Place::default();
    let all = place.clone();
    let mut hosted = vec![world.host("out", move |_| {
        Once { delay: Duration::from_millis(1), ..Once::into(&all) }.boxed()
    })];
    for instance in ["left", "left.1", "right", "right.1", "right.2"] {
        hosted.push(world.host(instance, |_| Pass::boxed()));
    }
    hosted.push(world.host("numbers", |start| Numbers::up_to(&start, 4_000, 40).boxed()));
    for one in hosted {
        one.done().await;
    }
    assert_eq!(place.sum(), sum((0..4_000).chain(0..4_000)));
    assert!(node.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_and_durable_edges_go_together() {
    let node = Node::start();
    let filter = format!("id: filter, {FILTER}, inputs: [{{from: numbers, durable: true}}]");
    let sinks = [
        "id: near, kind: stdout, inputs: [filter]",
        "id: far, kind: stdout, inputs: [numbers, {from: filter, durable: true}]",
    ];
    let world = mixed(&pipeline(&["numbers"], &[&filter], &sinks), &node).await;
    let (near, far) = (crate::parts::Written::default(), crate::parts::Written::default());
    let (one, other) = (near.clone(), far.clone());
    let hosted = [
        world.host("near", move |_| crate::parts::Collect::into(&one).boxed()),
        world.host("far", move |_| crate::parts::Collect::into(&other).boxed()),
        world.host("filter", |_| Pass::boxed()),
        world.host("numbers", |start| Numbers::up_to(&start, 3_000, 30).boxed()),
    ];
    for one in hosted {
        one.done().await;
    }
    assert_eq!(near.sum(), sum(0..3_000));
    assert_eq!(far.sum(), sum((0..3_000).chain(0..3_000)));
    assert!(node.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_that_holds_everything_is_not_waited_for() {
    let node = Node::start();
    let total = "id: total, kind: aggregate, config: {window: {rows: 1000000}, aggregates: [{function: count, name: n}]}, inputs: [{from: numbers, credits: 4}]";
    let text = pipeline(&["numbers"], &[total], &["id: out, kind: stdout, inputs: [total]"]);
    let world = world(&text, &node).await;
    let place = Place::default();
    let all = place.clone();
    let hosted = [
        world.host("out", move |_| Once::into(&all).boxed()),
        world.host("total", |_| AnyComponent::Processor(Box::new(Sum::default()))),
        world.host("numbers", |start| Numbers::up_to(&start, 1_000, 5).boxed()),
    ];
    for one in hosted {
        one.done().await;
    }
    assert_eq!(place.numbers(), [499_500]);
    assert!(node.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_run_goes_on_where_one_was_stopped() {
    let node = Node::start();
    let filter = format!("id: filter, {FILTER}, inputs: [numbers]");
    let text = pipeline(&["numbers"], &[&filter], &["id: out, kind: stdout, inputs: [filter]"]);
    let mut world = world(&text, &node).await;
    let place = Place::default();
    for run in 1..=3 {
        world.run = run;
        let all = place.clone();
        let sink = world.host("out", move |_| {
            Once { delay: Duration::from_millis(1), ..Once::into(&all) }.boxed()
        });
        let filter = world.host("filter", |_| Pass::boxed());
        let source = world.host("numbers", |start| slowly(Numbers::up_to(&start, 3_000, 2)));
        if run == 3 {
            source.done().await;
            filter.done().await;
            sink.done().await;
            continue;
        }
        let before = place.numbers().len();
        eventually("rows flow", || async { place.numbers().len() > before + 200 }).await;
        // What is in the queues stays there.
        sink.stop().await;
        filter.stop().await;
        source.stop().await;
    }
    assert_eq!(place.numbers(), (0..3_000).collect::<Vec<_>>(), "each once, in order");
    // A run after the end begins anew.
    world.run = 4;
    let all = place.clone();
    let sink = world.host("out", move |_| Once::into(&all).boxed());
    let filter = world.host("filter", |_| Pass::boxed());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 100, 10).boxed());
    source.done().await;
    filter.done().await;
    sink.done().await;
    assert_eq!(place.numbers().len(), 3_100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_instances_have_left_that_are_not_there_any_more_is_taken_by_the_others() {
    let node = Node::start();
    let three = "id: out, kind: stdout, replicas: 3, inputs: [numbers]";
    let before = world(&pipeline(&["numbers"], &[], &[three]), &node).await;
    // Nobody reads, and the source ends nevertheless: all is registered.
    before.host("numbers", |start| Numbers::up_to(&start, 60, 1).boxed()).done().await;
    let one = three.replace("replicas: 3, ", "");
    let mut world = world(&pipeline(&["numbers"], &[], &[&one]), &node).await;
    world.run = 2;
    let place = Place::default();
    let all = place.clone();
    let sink = world.host("out", move |_| Once::into(&all).boxed());
    world.host("numbers", |start| Numbers::up_to(&start, 0, 1).boxed()).done().await;
    sink.done().await;
    assert_eq!(place.sum(), sum(0..60));
    assert!(node.is_empty().await);
}

/// One batch a millisecond.
fn slowly(numbers: Numbers) -> AnyComponent {
    AnyComponent::Source(Box::new(Slowly(numbers)))
}

/// Passes on what it gets, but for one number.
struct Picky {
    given: u64,
    refuses: i64,
}

#[async_trait]
impl Processor for Picky {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        if numbers(&received.batch).contains(&self.refuses) {
            return Err(ComponentError::new(Code::InvalidArgument, "it does not like it"));
        }
        self.given += 1;
        Ok(Outcome { batches: vec![received.batch.clone()], done: self.given })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        Ok(Outcome { batches: Vec::new(), done: self.given })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_fails_again_and_again_is_put_aside_and_comes_when_it_is_asked_for() {
    let node = Node::start();
    let filter = format!("id: filter, {FILTER}, inputs: [numbers]");
    let text = pipeline(&["numbers"], &[&filter], &["id: out, kind: stdout, inputs: [filter]"]);
    let mut world = world(&text, &node).await;
    let place = Place::default();
    let all = place.clone();
    let sink = world.host("out", move |_| Once::into(&all).boxed());
    let source = world.host("numbers", |start| slowly(Numbers::up_to(&start, 300, 1)));
    let mut failures = 0;
    loop {
        let picky = |_| AnyComponent::Processor(Box::new(Picky { given: 0, refuses: 42 }));
        match world.host("filter", picky).ended().await {
            Ok(()) => break,
            Err(error) => {
                assert_eq!(error.exit_code(), 1, "another start may be of use: {error}");
                assert!(error.to_string().contains("it does not like it"), "{error}");
                failures += 1;
            }
        }
    }
    assert_eq!(failures, 4, "the first attempt and three more");
    source.done().await;
    sink.done().await;
    let queue = "test:numbers:filter:0";
    let failed = node.batches(queue, State::Failed).await;
    let [batch] = &failed[..] else { panic!("one has failed, not {}", failed.len()) };
    assert!(batch.error.as_ref().unwrap().message.contains("it does not like it"));
    let rest = place.numbers();
    assert!(!rest.contains(&42) && rest.len() > 1, "{rest:?}");
    assert_eq!(rest.len() as u64 + batch.spec.rows, 300, "all others have come, each once");
    let requeue = Control::RequeueFailed(queue.to_owned());
    node.coordinator().control(requeue).await.unwrap();
    world.run = 2;
    let all = place.clone();
    let hosted = [
        world.host("out", move |_| Once::into(&all).boxed()),
        world.host("filter", |_| Pass::boxed()),
        world.host("numbers", |start| Numbers::up_to(&start, 0, 10).boxed()),
    ];
    for one in hosted {
        one.done().await;
    }
    assert_eq!(place.sum(), sum(0..300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_its_sender() {
    let node = Node::start();
    let out = "id: out, kind: stdout, inputs: [{from: numbers, credits: 4}]";
    let world = world(&pipeline(&["numbers"], &[], &[out]), &node).await;
    let assignment = Assignment { health_listen: free_address(), ..world.assignment("numbers") };
    let source = world.host_as(assignment, |start| Numbers::up_to(&start, 100_000, 1).boxed());
    let queue = "test:numbers:out:0";
    eventually("the queue is full", || async { node.count(queue, State::Pending).await >= 4 })
        .await;
    // sleep: nothing is to happen, and that takes its time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(node.count(queue, State::Pending).await <= 8, "it goes on into a full queue");
    let stats = source.stats().await;
    let stream = &stats["outputs"][0]["streams"][0];
    assert_eq!((&stream["durable"], &stream["failed"]), (&true.into(), &0.into()));
    eventually("the numbers are up to date", || async {
        let stats = source.stats().await;
        stats["outputs"][0]["streams"][0]["unacknowledged"].as_u64().unwrap() >= 4
    })
    .await;
    source.stop().await;
}
