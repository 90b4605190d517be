//! Durable edges while everything is killed: every row once, in its order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use sheaf_dataflow::{AnyComponent, ComponentError, Received, Sink};

use crate::cases::{PATIENCE, World, eventually};
use crate::crash::spawn;
use crate::durable::{FILTER, Once, Place, world};
use crate::node::Node;
use crate::shapes::pipeline;

async fn linear(node: &Node) -> World {
    let filter = format!("id: filter, {FILTER}, inputs: [numbers]");
    let text = pipeline(&["numbers"], &[&filter], &["id: out, kind: stdout, inputs: [filter]"]);
    world(&text, node).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_every_row_is_there_once() {
    let mut node = Node::start();
    let world = linear(&node).await;
    let place = Place::default();
    let end = 4_000;
    let start_sink = || {
        let all = place.clone();
        world.host("out", move |_| Once::into(&all).boxed())
    };
    let mut sink = start_sink();
    let mut source = spawn(&world, "numbers", end);
    let mut filter = spawn(&world, "filter", end);
    for round in 0..8 {
        let before = place.numbers().len();
        eventually("rows flow", || async { place.numbers().len() > before + 100 }).await;
        match round % 4 {
            0 => {
                source.kill9().unwrap();
                source = spawn(&world, "numbers", end);
            }
            1 => {
                filter.kill9().unwrap();
                filter = spawn(&world, "filter", end);
            }
            2 => node.kill(),
            _ => {
                sink.crash().await;
                sink = start_sink();
            }
        }
    }
    let wait = move || {
        let ended = source.wait_exit(PATIENCE).unwrap();
        (ended.success(), filter.wait_exit(PATIENCE).unwrap().success())
    };
    let ended = tokio::task::spawn_blocking(wait).await.unwrap();
    assert_eq!(ended, (true, true));
    sink.done().await;
    assert_eq!(place.numbers(), (0..end).collect::<Vec<_>>(), "each once, in order");
    assert!(node.is_empty().await);
}

/// Commits, and then says nothing: a crash finds it between commit and completion.
struct Mute {
    sink: Once,
    is_mute: Arc<AtomicBool>,
}

#[async_trait]
impl Sink for Mute {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        let written = self.sink.write(received).await?;
        if self.sink.place.batches() >= 10 {
            self.is_mute.store(true, Ordering::SeqCst);
            std::future::pending::<()>().await;
        }
        Ok(written)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        self.sink.flush().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_dies_after_its_commit_writes_nothing_twice() {
    let node = Node::start();
    let world = linear(&node).await;
    let place = Place::default();
    let (all, is_mute) = (place.clone(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&is_mute);
    let sink = world.host("out", move |_| {
        AnyComponent::Sink(Box::new(Mute { sink: Once::into(&all), is_mute: told }))
    });
    let end = 500;
    let mut source = spawn(&world, "numbers", end);
    let mut filter = spawn(&world, "filter", end);
    eventually("it has committed", || async { is_mute.load(Ordering::SeqCst) }).await;
    sink.crash().await;
    let all = place.clone();
    let sink = world.host("out", move |_| Once::into(&all).boxed());
    let wait = move || (source.wait_exit(PATIENCE).unwrap(), filter.wait_exit(PATIENCE).unwrap());
    let (source, filter) = tokio::task::spawn_blocking(wait).await.unwrap();
    assert!(source.success() && filter.success());
    sink.done().await;
    assert_eq!(place.numbers(), (0..end).collect::<Vec<_>>(), "each once, in order");
}
