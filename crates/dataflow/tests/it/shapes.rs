//! Every row comes out once in every shape, whoever is slow.

use std::time::Duration;

use crate::cases::World;
use crate::parts::{Collect, Numbers, Pass, Written, sum};

const COLUMNS: &str = "config: {columns: [{name: n, values: sequence}]}";

pub(crate) fn pipeline(sources: &[&str], processors: &[&str], sinks: &[&str]) -> String {
    let list =
        |items: &[&str]| items.iter().map(|item| format!("  - {{{item}}}\n")).collect::<String>();
    let sources: Vec<String> =
        sources.iter().map(|id| format!("id: {id}, kind: generate, {COLUMNS}")).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let mut text = "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {name: test}\n".to_owned();
    text += &format!("sources:\n{}", list(&sources));
    if !processors.is_empty() {
        text += &format!("processors:\n{}", list(processors));
    }
    text + &format!("sinks:\n{}", list(sinks))
}

const FILTER: &str = "kind: filter, config: {where: 'n >= 0'}";

fn slow(written: &Written) -> Collect {
    Collect { delay: Duration::from_millis(3), ..Collect::into(written) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn linear() {
    let filter = format!("id: filter, {FILTER}, inputs: [numbers]");
    let text = pipeline(&["numbers"], &[&filter], &["id: out, kind: stdout, inputs: [filter]"]);
    let world = World::new(&text).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let filter = world.host("filter", |_| Pass::boxed());
    let source = world.host("numbers", |start| Numbers::up_to(&start, 10_000, 7).boxed());
    source.done().await;
    filter.done().await;
    sink.done().await;
    assert_eq!(written.numbers(), (0..10_000).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_out_gives_every_sink_everything() {
    let sinks =
        ["id: fast, kind: stdout, inputs: [numbers]", "id: slow, kind: stdout, inputs: [numbers]"];
    let world = World::new(&pipeline(&["numbers"], &[], &sinks)).await;
    let (fast, slowly) = (Written::default(), Written::default());
    let (one, other) = (fast.clone(), slowly.clone());
    let sinks = [
        world.host("fast", move |_| Collect::into(&one).boxed()),
        world.host("slow", move |_| slow(&other).boxed()),
    ];
    let source = world.host("numbers", |start| Numbers::up_to(&start, 5_000, 25).boxed());
    source.done().await;
    for sink in sinks {
        sink.done().await;
    }
    assert_eq!(fast.numbers(), (0..5_000).collect::<Vec<_>>());
    assert_eq!(slowly.numbers(), (0..5_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_in_gets_everything_of_all() {
    let text = pipeline(&["low", "high"], &[], &["id: out, kind: stdout, inputs: [low, high]"]);
    let world = World::new(&text).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| slow(&all).boxed());
    let sources = [
        world.host("low", |start| Numbers::up_to(&start, 2_000, 20).boxed()),
        world.host("high", |start| {
            let numbers = Numbers::up_to(&start, 5_000, 20);
            Numbers { next: numbers.next.max(2_000), ..numbers }.boxed()
        }),
    ];
    for source in sources {
        source.done().await;
    }
    sink.done().await;
    assert_eq!(written.sum(), sum(0..5_000));
    let (low, high): (Vec<i64>, Vec<i64>) = written.numbers().iter().partition(|n| **n < 2_000);
    assert!(low.is_sorted() && high.is_sorted(), "each stream keeps its order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamond_brings_every_row_on_both_ways() {
    let left = format!("id: left, {FILTER}, inputs: [numbers]");
    let right = format!("id: right, {FILTER}, inputs: [numbers]");
    let sink = "id: out, kind: stdout, inputs: [left, right]";
    let world = World::new(&pipeline(&["numbers"], &[&left, &right], &[sink])).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| slow(&all).boxed());
    let ways = [world.host("left", |_| Pass::boxed()), world.host("right", |_| Pass::boxed())];
    let source = world.host("numbers", |start| Numbers::up_to(&start, 5_000, 50).boxed());
    source.done().await;
    for way in ways {
        way.done().await;
    }
    sink.done().await;
    assert_eq!(written.sum(), sum((0..5_000).chain(0..5_000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_keys_come_together_by_hash() {
    let sink =
        "id: out, kind: stdout, replicas: 3, inputs: [{from: numbers, partitioning: {hash: [n]}}]";
    let world = World::new(&pipeline(&["numbers"], &[], &[sink])).await;
    let parts: Vec<Written> = (0..3).map(|_| Written::default()).collect();
    let sinks: Vec<_> = ["out", "out.1", "out.2"]
        .iter()
        .zip(&parts)
        .map(|(instance, written)| {
            let written = written.clone();
            world.host(instance, move |_| Collect::into(&written).boxed())
        })
        .collect();
    // Every number twice.
    let source = world.host("numbers", |start| {
        Again { first: Numbers::up_to(&start, 3_000, 100), times: 2 }.boxed()
    });
    source.done().await;
    for sink in sinks {
        sink.done().await;
    }
    assert_eq!(sum(parts.iter().flat_map(Written::numbers)), sum((0..3_000).chain(0..3_000)));
    for written in &parts {
        let mut numbers = written.numbers();
        assert!(numbers.len() > 1_000, "a third of them, about: {}", numbers.len());
        numbers.sort_unstable();
        let pairs = numbers.chunks(2).all(|pair| pair.len() == 2 && pair[0] == pair[1]);
        assert!(pairs, "both of each number are here");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_turn_and_to_all() {
    let sinks = [
        "id: turns, kind: stdout, replicas: 2, inputs: [{from: numbers, partitioning: round-robin}]",
        "id: every, kind: stdout, replicas: 2, inputs: [{from: numbers, partitioning: broadcast}]",
    ];
    let world = World::new(&pipeline(&["numbers"], &[], &sinks)).await;
    let names = ["turns", "turns.1", "every", "every.1"];
    let parts: Vec<Written> = names.iter().map(|_| Written::default()).collect();
    let sinks: Vec<_> = names
        .iter()
        .zip(&parts)
        .map(|(instance, written)| {
            let written = written.clone();
            world.host(instance, move |_| Collect::into(&written).boxed())
        })
        .collect();
    let source = world.host("numbers", |start| Numbers::up_to(&start, 1_000, 10).boxed());
    source.done().await;
    for sink in sinks {
        sink.done().await;
    }
    assert_eq!([parts[0].batches(), parts[1].batches()], [50, 50]);
    assert_eq!(sum(parts[..2].iter().flat_map(Written::numbers)), sum(0..1_000));
    for every in &parts[2..] {
        assert_eq!(every.numbers(), (0..1_000).collect::<Vec<_>>());
    }
}

/// The same numbers several times.
struct Again {
    first: Numbers,
    times: u32,
}

impl Again {
    fn boxed(self) -> sheaf_dataflow::AnyComponent {
        sheaf_dataflow::AnyComponent::Source(Box::new(self))
    }
}

#[async_trait::async_trait]
impl sheaf_dataflow::Source for Again {
    async fn next(
        &mut self,
    ) -> Result<Option<sheaf_dataflow::Made>, sheaf_dataflow::ComponentError> {
        if let Some(made) = self.first.next().await? {
            return Ok(Some(made));
        }
        self.times -= 1;
        if self.times == 0 {
            return Ok(None);
        }
        self.first.next = 0;
        self.first.next().await
    }
}
