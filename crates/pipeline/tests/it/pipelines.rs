//! Pipelines, as tools see them, and across restarts.

use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Kind, PipelineState, Plan, Status};
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{World, clock, directory, file, plan, registration};

#[tokio::test]
async fn a_tool_sees_topology_and_runs() {
    let world = World::new().await;
    world.plane.plan(plan("orders")).await.unwrap();
    world.plane.plan(plan("payments")).await.unwrap();
    let to = async |state, reason: &str| {
        world.plane.set_pipeline_state("orders".to_owned(), state, reason.to_owned()).await
    };
    assert_eq!(world.plane.begin_run("orders".to_owned()).await.unwrap(), 1);
    to(PipelineState::Running, "").await.unwrap();
    to(PipelineState::Failed, "disk full").await.unwrap();
    assert_eq!(world.plane.begin_run("orders".to_owned()).await.unwrap(), 2);
    let client = world.client();
    let found = client.pipelines(&["orders"], true).await.unwrap().remove(0);
    assert_eq!((found.state, &*found.plan.name), (PipelineState::Starting, "orders"));
    assert_eq!(&*found.plan.spec, "sources:\n  read: {kind: generate}\n");
    let nodes: Vec<_> =
        found.plan.places.iter().map(|place| (&*place.component, place.kind)).collect();
    let kinds = [("read", Kind::Source), ("filter", Kind::Processor), ("write", Kind::Sink)];
    assert_eq!(nodes, kinds);
    assert_eq!(found.plan.places[1].connections.upstream, ["orders:read"]);
    assert_eq!(found.plan.places[1].connections.downstream, ["orders:write"]);
    assert_eq!(found.runs[0].end.unwrap().1, PipelineState::Failed);
    assert_eq!((&*found.runs[0].reason, found.runs[1].end), ("disk full", None));
    let all = client.pipelines(&[], false).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(all.iter().all(|pipeline| pipeline.plan.spec.is_empty()));
    assert_eq!(client.pipelines(&["none"], false).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn pipelines_and_components_are_there_after_a_restart() {
    let folder = directory();
    let options = || Options { state: file(folder.path()), ..Options::default() };
    let plane = ControlPlane::open(options(), clock()).unwrap();
    plane.plan(plan("orders")).await.unwrap();
    plane.begin_run("orders".to_owned()).await.unwrap();
    let asked = registration("orders:read", Kind::Source);
    let first = plane.register(asked.clone()).await.unwrap();
    let run = plane.run();
    let held = ControlPlane::open(options(), clock()).unwrap_err();
    assert_eq!(held.code(), Code::DirectoryLocked);
    assert!(held.to_string().contains("another control plane has it"), "{held}");
    plane.close().await.unwrap();

    let plane = ControlPlane::open(options(), clock()).unwrap();
    assert_ne!(plane.run(), run);
    assert!(plane.damaged().is_empty());
    let pipeline = plane.pipeline("orders".to_owned()).await.unwrap();
    assert_eq!((pipeline.state, pipeline.last_run), (PipelineState::Starting, 1));
    assert_eq!(pipeline.plan, plan("orders"));
    let found = plane.component("orders:read".to_owned()).await.unwrap();
    assert_eq!((found.status, found.fence), (Status::Healthy, first.fence));
    assert_eq!(plane.component("orders:write".to_owned()).await.unwrap().status, Status::Expected);
    // The same incarnation has its fence still, the next one a higher one.
    let again = plane.register(asked.clone()).await.unwrap();
    assert_eq!((again.created, again.fence), (false, first.fence));
    plane
        .deregister(asked.id.clone(), asked.incarnation.clone(), "drained".to_owned(), None)
        .await
        .unwrap();
    let next = plane.register(registration("orders:read", Kind::Source)).await.unwrap();
    assert!(next.fence > first.fence);
    plane.plan(Plan { plan_hash: "other".to_owned(), ..plan("orders") }).await.unwrap();
    let stopped = PipelineState::Stopped;
    plane.set_pipeline_state("orders".to_owned(), stopped, String::new()).await.unwrap();
    plane.remove_pipeline("orders".to_owned()).await.unwrap();
    plane.close().await.unwrap();

    let plane = ControlPlane::open(options(), clock()).unwrap();
    assert!(plane.pipelines().await.unwrap().is_empty());
    assert!(plane.component("orders:read".to_owned()).await.is_err());
}
