//! Components that beat, through restarts of either side.

use std::time::Duration;

use prometheus_client::registry::Registry as MetricsRegistry;
use sheaf_pipeline::control::{ClientOptions, ControlPlane, Pulse, Standing};
use sheaf_pipeline::health::Monitor;
use sheaf_pipeline::registry::{Filter, Kind, Registration, Status};
use sheaf_pipeline::state::State;
use sheaf_retry::{Code, RetryPolicy, Retryable as _};
use sheaf_testkit::Process;
use tokio::task::JoinHandle;

use crate::harness::{
    PATIENCE, beat, client, clock, directory, eventually, file, lively, metric, once, plan, quick,
    registration, serve, worker,
};

const CHILD: &str = "SHEAF_TEST_MEMBER_CHILD";

/// A component's own loop, which does nothing but come round.
fn work(pulse: Pulse) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut round = tokio::time::interval(Duration::from_millis(5));
        loop {
            round.tick().await;
            pulse.tick();
        }
    })
}

/// Few and short retries: the control plane may be away.
fn hasty() -> ClientOptions {
    let retry = RetryPolicy { max_retries: 1, base_ms: 5, ..RetryPolicy::TRANSFER };
    ClientOptions { retry, deadline: Duration::from_millis(500), ..ClientOptions::default() }
}

async fn status(plane: &ControlPlane, id: &str) -> Option<Status> {
    plane.component(id.to_owned()).await.ok().map(|found| found.status)
}

#[tokio::test]
async fn a_member_beats_with_its_loop_and_leaves() {
    let plane = ControlPlane::open(quick(State::Memory), clock()).unwrap();
    plane.plan(plan("orders")).await.unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let _monitor = Monitor::start(&plane, &clock());
    let client = client(&server.uri(), hasty());
    let member = client.join(registration("orders:read", Kind::Source)).await.unwrap();
    assert_eq!(member.connections().downstream, ["orders:filter"]);
    let work = work(member.pulse());
    let progress = async || plane.component(member.id().to_owned()).await.unwrap().progress;
    eventually("its loop is seen to move", || async { progress().await > 100 }).await;
    assert_eq!(status(&plane, "orders:read").await, Some(Status::Healthy));
    // It beats on, but its loop is dead.
    work.abort();
    let is = async |wanted| status(&plane, "orders:read").await == Some(wanted);
    eventually("unhealthy", || is(Status::Unhealthy)).await;
    let reason = plane.component("orders:read".to_owned()).await.unwrap().reason.clone();
    assert!(reason.starts_with("it beats, but its loop has not moved"), "{reason}");
    assert_eq!(*member.standing().borrow(), Standing::Member);
    member.pulse().tick();
    eventually("healthy again", || is(Status::Healthy)).await;
    let standing = member.standing();
    member.leave("drained").await.unwrap();
    assert_eq!(*standing.borrow(), Standing::Left);
    let found = plane.component("orders:read".to_owned()).await.unwrap();
    assert_eq!((found.status, &*found.reason), (Status::Stopped, "drained"));
}

#[tokio::test]
async fn a_dropped_member_deregisters() {
    let plane = ControlPlane::open(lively(State::Memory), clock()).unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let member = client(&server.uri(), hasty()).join(worker("w1")).await.unwrap();
    drop(member);
    eventually("it is gone", || async { status(&plane, "w1").await.is_none() }).await;
}

#[tokio::test]
async fn members_register_again_with_a_control_plane_that_was_started_again() {
    let folder = directory();
    let plane = ControlPlane::open(lively(file(folder.path())), clock()).unwrap();
    plane.plan(plan("orders")).await.unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let (uri, address) = (server.uri(), server.local_addr().to_string());
    let mut members = Vec::new();
    for (name, kind) in [("read", Kind::Source), ("filter", Kind::Processor), ("write", Kind::Sink)]
    {
        let asked = registration(&format!("orders:{name}"), kind);
        let member = client(&uri, hasty()).join(asked).await.unwrap();
        let work = work(member.pulse());
        members.push((member.fence(), member, work));
    }
    plane.close().await.unwrap();
    server.drain(Duration::ZERO).await;
    let away = |(_, member, _): &(u64, _, _)| {
        let member: &sheaf_pipeline::control::Member = member;
        matches!(*member.standing().borrow(), Standing::Away { .. })
    };
    eventually("they see that it is away", || async { members.iter().all(away) }).await;

    let plane = ControlPlane::open(lively(file(folder.path())), clock()).unwrap();
    let mut metrics = MetricsRegistry::default();
    plane.register_metrics(&mut metrics);
    let _server = serve(&address, plane.clone()).await;
    let _monitor = Monitor::start(&plane, &clock());
    for (fence, member, _) in &members {
        let is_member = || async { *member.standing().borrow() == Standing::Member };
        eventually("it is a member again", is_member).await;
        let found = plane.component(member.id().to_owned()).await.unwrap();
        assert_eq!((found.status, found.fence, found.restarts), (Status::Healthy, *fence, 0));
        let progress = found.progress;
        eventually("its beats count", || async {
            plane.component(member.id().to_owned()).await.unwrap().progress > progress
        })
        .await;
    }
    let registered = |created: &str| {
        metric(&metrics, &format!("sheaf_control_registrations_total{{created=\"{created}\"}}"))
    };
    // More than three only where an answer came late and was asked for again.
    assert!(registered("false") >= 3 && registered("true") == 0, "each under its old fence");
}

#[tokio::test]
async fn workers_are_known_again_to_a_control_plane_that_forgot_everything() {
    let plane = ControlPlane::open(lively(State::Memory), clock()).unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let address = server.local_addr().to_string();
    let member = client(&server.uri(), hasty()).join(worker("w1")).await.unwrap();
    let _work = work(member.pulse());
    plane.close().await.unwrap();
    server.drain(Duration::ZERO).await;
    let plane = ControlPlane::open(lively(State::Memory), clock()).unwrap();
    let _server = serve(&address, plane.clone()).await;
    let is_healthy = || async { status(&plane, "w1").await == Some(Status::Healthy) };
    eventually("it is there", is_healthy).await;
    let fence = plane.component("w1".to_owned()).await.unwrap().fence;
    eventually("it knows its fence", || async { member.fence() == fence }).await;
}

#[tokio::test]
async fn who_was_replaced_hears_that_its_place_is_lost() {
    let plane = ControlPlane::open(quick(State::Memory), clock()).unwrap();
    plane.plan(plan("orders")).await.unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let client = client(&server.uri(), hasty());
    let asked = registration("orders:read", Kind::Source);
    // Its loop never moves: for the control plane it is as good as dead.
    let first = client.join(asked.clone()).await.unwrap();
    let next = registration("orders:read", Kind::Source);
    let second = client.join(next.clone()).await.unwrap();
    assert!(second.fence() > first.fence(), "it was waited for");
    let mut standing = first.standing();
    let lost = standing.wait_for(|now| matches!(now, Standing::Lost { .. }));
    tokio::time::timeout(PATIENCE, lost).await.unwrap().unwrap();
    first.leave("too late").await.unwrap();
    assert!(client.beat(&beat(&next, 1_000_000)).await.is_ok(), "the second one has it still");
}

#[tokio::test]
async fn a_place_that_stays_taken_is_given_up_in_the_end() {
    let plane = ControlPlane::open(lively(State::Memory), clock()).unwrap();
    plane.plan(plan("orders")).await.unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let asked = registration("orders:read", Kind::Source);
    let first = client(&server.uri(), once()).join(asked).await.unwrap();
    let _work = work(first.pulse());
    let options = ClientOptions { patience: Duration::from_millis(1), ..once() };
    let other = client(&server.uri(), options);
    let second = other.join(registration("orders:read", Kind::Source));
    assert_eq!(second.await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_component_may_start_before_its_control_plane() {
    let port = sheaf_testkit::free_port().unwrap();
    let address = port.release();
    let early = client(&format!("grpc://{address}"), once());
    let joining = tokio::spawn(async move { early.join(worker("w1")).await });
    let refused = client(&format!("grpc://{address}"), once()).register(&worker("w2")).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    let plane = ControlPlane::open(lively(State::Memory), clock()).unwrap();
    let _server = serve(&address.to_string(), plane.clone()).await;
    let member = tokio::time::timeout(PATIENCE, joining).await.unwrap().unwrap().unwrap();
    assert_eq!(status(&plane, member.id()).await, Some(Status::Healthy));
}

/// Runs in the child: a worker that beats until it is killed.
#[test]
#[allow(clippy::disallowed_methods, reason = "the parent names the control plane so")]
fn child() {
    let Ok(uri) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let asked = Registration { incarnation: worker("").incarnation, ..worker("child") };
        let member = client(&uri, hasty()).join(asked).await.unwrap();
        work(member.pulse()).await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_is_unhealthy_until_it_goes_on() {
    let plane = ControlPlane::open(quick(State::Memory), clock()).unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    let _monitor = Monitor::start(&plane, &clock());
    let mut process = Process::command(std::env::current_exe().unwrap())
        .args(["--exact", "member::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, server.uri())
        .spawn()
        .unwrap();
    let is = async |wanted| status(&plane, "child").await == Some(wanted);
    eventually("it is there", || is(Status::Healthy)).await;
    process.pause().unwrap();
    eventually("unhealthy", || is(Status::Unhealthy)).await;
    process.resume().unwrap();
    eventually("healthy again", || is(Status::Healthy)).await;
    process.kill9().unwrap();
    eventually("unhealthy for good", || is(Status::Unhealthy)).await;
    let healthy = Filter { statuses: vec![Status::Healthy], ..Filter::default() };
    assert!(plane.select(healthy).await.unwrap().is_empty());
}
