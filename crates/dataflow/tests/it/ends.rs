//! How components end where something is wrong with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sheaf_dataflow::{AnyComponent, ComponentError, Host};
use sheaf_pipeline::registry::Status;
use sheaf_retry::{Code, Retryable as _};

use crate::cases::{World, eventually, get};
use crate::parts::{Collect, Moody, Numbers, Slow, Told, Written};
use crate::shapes::pipeline;

const OUT: &str = "id: out, kind: stdout, inputs: [numbers]";

fn moody(written: &Written, failures: u32, code: Code) -> AnyComponent {
    moody_until(written, &Arc::new(AtomicU32::new(failures)), code)
}

fn moody_until(written: &Written, failures: &Arc<AtomicU32>, code: Code) -> AnyComponent {
    let failures = Arc::clone(failures);
    AnyComponent::Sink(Box::new(Moody { inner: Collect::into(written), failures, code }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_is_told_of_its_streams_and_of_the_end_of_each_while_others_go_on() {
    let all = "id: all, kind: merge, inputs: [low, high]";
    let out = "id: out, kind: stdout, inputs: [all]";
    let world = World::new(&pipeline(&["low", "high"], &[all], &[out])).await;
    let written = Written::default();
    let into = written.clone();
    let sink = world.host("out", move |_| Collect::into(&into).boxed());
    let all = world.host("all", |_| AnyComponent::Processor(Box::new(Told::default())));
    let low = world.host("low", |start| Numbers::up_to(&start, 50, 10).boxed());
    let high = world.host("high", |start| {
        Numbers { is_endless: true, ..Numbers::up_to(&start, 50, 10) }.boxed()
    });
    eventually("the end came on", || async { written.numbers().len() == 101 }).await;
    let numbers = written.numbers();
    assert_eq!(numbers.iter().filter(|number| **number < 0).collect::<Vec<_>>(), [&-1]);
    eventually("it is counted", || async { all.stats().await["counters"]["ended_streams"] == 1 })
        .await;
    let (_, metrics) = get(&all.health, "/metrics").await;
    let line = r#"sheaf_component_count{pipeline="test",instance="all",name="ended_streams"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    for one in [low, high, all, sink] {
        one.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_makes_again_what_its_readers_had_before_they_left_comes_to_its_end() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    world.host("numbers", |start| Numbers::up_to(&start, 500, 1).boxed()).done().await;
    sink.done().await;
    // Its last offset was not written down: it begins at the beginning, with nobody there.
    std::fs::remove_dir_all(world.state_dir("numbers")).unwrap();
    world.host("numbers", |start| Numbers::up_to(&start, 500, 1).boxed()).done().await;
    assert_eq!(written.numbers(), (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_takes_its_time_does_not_begin_again_where_readers_acknowledge() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let written = Written::default();
    let all = written.clone();
    let delay = Duration::from_millis(50);
    let sink = world.host("out", move |_| Collect { delay, ..Collect::into(&all) }.boxed());
    let begun = Arc::new(AtomicU32::new(0));
    let its = Arc::clone(&begun);
    let source = world.host("numbers", move |_| {
        AnyComponent::Source(Box::new(Slow { made: 0, begun: Arc::clone(&its) }))
    });
    source.done().await;
    sink.done().await;
    assert_eq!((written.numbers().len(), begun.load(Ordering::SeqCst)), (20, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_for_a_while_is_tried_again_with_the_same_batch() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| moody(&all, 2, Code::Unavailable));
    let source = world.host("numbers", |start| Numbers::up_to(&start, 50, 1).boxed());
    source.done().await;
    sink.done().await;
    assert_eq!(written.numbers(), (0..50).collect::<Vec<_>>());
    let found = world.plane.component("test:out".to_owned()).await.unwrap();
    assert_eq!((found.status, &*found.reason), (Status::Stopped, "done with pass 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_tried_again_is_told_with_its_reason_until_it_works() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let written = Written::default();
    let all = written.clone();
    let failures = Arc::new(AtomicU32::new(u32::MAX));
    let left = Arc::clone(&failures);
    let sink = world.host("out", move |_| moody_until(&all, &left, Code::Unavailable));
    let source = world.host("numbers", |start| {
        Numbers { is_endless: true, ..Numbers::up_to(&start, 50, 10) }.boxed()
    });
    eventually("it is told", || async {
        let told = sink.stats().await["trouble"].as_str().unwrap_or_default().to_owned();
        told.starts_with("failed ") && told.contains(" times, tries again: ")
    })
    .await;
    let failed = u32::MAX - failures.swap(0, Ordering::SeqCst);
    eventually("it works", || async {
        let told = sink.stats().await;
        told["trouble"].is_null() && told["retries"] == failed
    })
    .await;
    let (_, metrics) = get(&sink.health, "/metrics").await;
    let line =
        format!("sheaf_component_retries_total{{pipeline=\"test\",instance=\"out\"}} {failed}\n");
    assert!(metrics.contains(&line), "{metrics}");
    source.stop().await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_done_ends_the_component_and_says_why() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let written = Written::default();
    let sink = world.host("out", move |_| moody(&written, 1, Code::PermissionDenied));
    let source = world.host("numbers", |start| Numbers::up_to(&start, 50, 1).boxed());
    let error = sink.ended().await.unwrap_err();
    assert_eq!((error.code(), error.exit_code()), (Code::PermissionDenied, 1));
    let found = world.plane.component("test:out".to_owned()).await.unwrap();
    assert_eq!(found.reason, "failed: the database is not there");
    source.task.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_cannot_be_made_is_no_use_to_start_again() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let make = |_| async { Err(ComponentError::new(Code::InvalidArgument, "no such file")) };
    let error = Host::new(world.assignment("numbers")).run(make).await.unwrap_err();
    assert_eq!(error.exit_code(), 2);
    // One of another role than the plan says.
    let sink = world.host("out", |start| Numbers::up_to(&start, 1, 1).boxed());
    let error = sink.ended().await.unwrap_err();
    assert_eq!(error.to_string(), "test:out is to be a sink, and a source was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impossible_assignment_is_refused_before_anything_starts() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let refuse = async |assignment| {
        let make = |_| async { Err(ComponentError::new(Code::Internal, "it was made")) };
        Host::new(assignment).run(make).await.unwrap_err()
    };
    let mut assignment = world.assignment("numbers");
    assignment.outputs[0].edge.durable = true;
    let error = refuse(assignment).await;
    assert_eq!((error.code(), error.exit_code()), (Code::InvalidArgument, 2));
    assert!(error.to_string().contains("the address of the store"), "{error}");
    let mut assignment = world.assignment("out");
    (assignment.inputs, assignment.data_token) = (Vec::new(), String::new());
    let error = refuse(assignment).await;
    assert!(error.to_string().contains("no inputs") && error.to_string().contains("no data token"));
    let mut assignment = world.assignment("numbers");
    assignment.listen = "0.0.0.0:0".to_owned();
    let error = refuse(assignment).await;
    assert!(error.to_string().contains("advertiseHost"), "{error}");
    let mut assignment = world.assignment("numbers");
    assignment.token = "a token of nobody".to_owned();
    let error = refuse(assignment).await;
    assert_eq!(error.code(), Code::PermissionDenied, "{}", error.chain());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_changes_is_an_error_and_not_a_mess() {
    let world = World::new(&pipeline(&["numbers"], &[], &[OUT])).await;
    let source = world.host("numbers", |_| AnyComponent::Source(Box::new(Changing(0))));
    let error = source.ended().await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.to_string().contains("edge numbers:out"), "{error}");
}

struct Changing(u8);

#[async_trait::async_trait]
impl sheaf_dataflow::Source for Changing {
    async fn next(&mut self) -> Result<Option<sheaf_dataflow::Made>, ComponentError> {
        use arrow_array::{Int64Array, RecordBatch, StringArray};
        self.0 += 1;
        let column: arrow_array::ArrayRef = match self.0 {
            1 => std::sync::Arc::new(Int64Array::from(vec![1])),
            _ => std::sync::Arc::new(StringArray::from(vec!["a"])),
        };
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        Ok(Some(sheaf_dataflow::Made { batch, offset: vec![self.0].into() }))
    }
}
