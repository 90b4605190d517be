//! Processes that are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sheaf_dataflow::{AnyComponent, Assignment, ComponentError, Made, Source, run};
use sheaf_testkit::Process;

use crate::cases::{PATIENCE, World, eventually};
use crate::parts::{Collect, Numbers, Pass, Written, sum};
use crate::shapes::pipeline;

const CHILD: &str = "SHEAF_TEST_COMPONENT_CHILD";

/// One batch a millisecond, so that a kill finds it at work.
pub(crate) struct Slowly(pub(crate) Numbers);

#[async_trait::async_trait]
impl Source for Slowly {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        // sleep: it is the pace of the source.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        self.0.next().await
    }
}

/// Runs in the child: the component of the assignment in the environment.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent says so")]
fn child() {
    let Ok(end) = std::env::var(CHILD) else { return };
    let end: i64 = end.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let result = runtime.block_on(async {
        let assignment = Assignment::from_environment()?;
        run(assignment, async |start| {
            Ok(match &*start.component {
                "numbers" => AnyComponent::Source(Box::new(Slowly(Numbers::up_to(&start, end, 1)))),
                _ => Pass::boxed(),
            })
        })
        .await
    });
    result.unwrap();
}

pub(crate) fn spawn(world: &World, instance: &str, end: i64) -> Process {
    let assignment = world.assignment(instance);
    let path = world.state_dir("").join(format!("{instance}.json"));
    std::fs::write(&path, serde_json::to_vec(&assignment).unwrap()).unwrap();
    Process::command(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, end.to_string())
        .env("SHEAF_ASSIGNMENT", &path)
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_lose_nothing() {
    let filter = "id: filter, kind: filter, config: {where: 'n >= 0'}, inputs: [numbers]";
    let text = pipeline(&["numbers"], &[filter], &["id: out, kind: stdout, inputs: [filter]"]);
    let world = World::new(&text).await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let end = 6_000;
    let mut source = spawn(&world, "numbers", end);
    let mut filter = spawn(&world, "filter", end);
    let seen = Arc::new(AtomicU64::new(0));
    for round in 0..4 {
        let before = seen.load(Ordering::SeqCst);
        eventually("batches flow", || async {
            seen.store(written.batches() as u64, Ordering::SeqCst);
            written.batches() as u64 > before + 300
        })
        .await;
        let (victim, instance) = match round % 2 {
            0 => (&mut source, "numbers"),
            _ => (&mut filter, "filter"),
        };
        victim.kill9().unwrap();
        *victim = spawn(&world, instance, end);
    }
    let wait = move || {
        let ended = source.wait_exit(PATIENCE).unwrap();
        (ended.success(), filter.wait_exit(PATIENCE).unwrap().success())
    };
    let ended = tokio::task::spawn_blocking(wait).await.unwrap();
    assert_eq!(ended, (true, true));
    sink.done().await;
    let mut numbers = written.numbers();
    let twice = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(sum(numbers), sum(0..end), "nothing is lost");
    assert!(twice < 9_000, "it went on near to where it was: {twice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_told_to_stop_drains_and_ends_well() {
    let world =
        World::new(&pipeline(&["numbers"], &[], &["id: out, kind: stdout, inputs: [numbers]"]))
            .await;
    let written = Written::default();
    let all = written.clone();
    let sink = world.host("out", move |_| Collect::into(&all).boxed());
    let mut source = spawn(&world, "numbers", 1_000_000);
    eventually("batches flow", || async { written.batches() > 100 }).await;
    let ended = tokio::task::spawn_blocking(move || source.terminate(PATIENCE).unwrap());
    assert!(ended.await.unwrap().success());
    let offset = std::fs::read(world.state_dir("numbers").join("offset")).unwrap();
    let last = i64::from_le_bytes(offset[offset.len() - 8..].try_into().unwrap());
    sink.stop().await;
    assert_eq!(written.numbers(), (0..last).collect::<Vec<_>>(), "all that was sent, and no more");
}
