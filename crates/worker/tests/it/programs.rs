//! External programs.

use sheaf_connectors::ExecCommand;
use sheaf_coordinator::State;
use sheaf_retry::SystemClock;
use sheaf_worker::{Config, Exec};

use crate::support::{Scene, eager};

fn exec(command: &str) -> Exec {
    Exec::new(ExecCommand::new(command, SystemClock::shared()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_writes_reaches_the_sink() {
    let scene = Scene::new().await;
    scene.add("b", &[4, 5, 6], eager(0)).await;
    let coordinator = scene.coordinator.clone();
    let worker =
        scene.worker_with(Config::new("p"), exec("cat"), Some(scene.sink().await), coordinator);
    scene.reaches("b", State::Completed).await;
    assert_eq!(scene.results().await, vec![4, 5, 6]);
    worker.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_65_is_permanent_and_any_other_failure_is_tried_again() {
    let scene = Scene::new().await;
    scene.add("bad-data", &[1], eager(3)).await;
    scene.add("flaky", &[1], eager(1)).await;
    let script = "cat >/dev/null; echo $SHEAF_BATCH_ID said no >&2; \
                  if [ $SHEAF_BATCH_ID = bad-data ]; then exit 65; fi; exit 3";
    let worker = scene.worker(Config::new("p"), exec(script));
    let batch = scene.reaches("bad-data", State::Failed).await;
    assert_eq!(batch.attempts, 1);
    assert!(batch.error.unwrap().message.contains("bad-data said no"));
    let batch = scene.reaches("flaky", State::Failed).await;
    assert_eq!(batch.attempts, 2);
    worker.shutdown().await;
}
