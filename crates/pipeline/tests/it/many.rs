//! A hundred components at once.

use prometheus_client::registry::Registry as MetricsRegistry;
use sheaf_pipeline::control::{ControlPlane, Options};
use sheaf_pipeline::registry::{Filter, Kind, Status};

use crate::harness::{
    beat, client, clock, directory, file, metric, once, plan, registration, serve, worker,
};

const COMPONENTS: usize = 100;
const BEATS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_components_register_and_beat_at_once() {
    let folder = directory();
    let options = || Options { state: file(folder.path()), ..Options::default() };
    let plane = ControlPlane::open(options(), clock()).unwrap();
    let mut metrics = MetricsRegistry::default();
    plane.register_metrics(&mut metrics);
    let server = serve("127.0.0.1:0", plane.clone()).await;
    plane.plan(plan("orders")).await.unwrap();
    let tasks = (0..COMPONENTS).map(|n| {
        let client = client(&server.uri(), once());
        tokio::spawn(async move {
            let asked = worker(&format!("w{n:03}"));
            let fence = client.register(&asked).await.unwrap().registered.fence;
            for number in 1..=BEATS {
                assert!(client.beat(&beat(&asked, number)).await.unwrap().counted);
            }
            // A repeated beat and one without progress are answered and do not count.
            assert!(!client.beat(&beat(&asked, BEATS)).await.unwrap().counted);
            let mut stalled = beat(&asked, BEATS + 1);
            stalled.progress = BEATS;
            assert!(!client.beat(&stalled).await.unwrap().counted);
            fence
        })
    });
    let mut fences = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        fences.push(task.await.unwrap());
    }
    fences.sort_unstable();
    fences.dedup();
    assert_eq!(fences.len(), COMPONENTS, "every fence is given once");
    let wrong = registration("orders:none", Kind::Source);
    client(&server.uri(), once()).register(&wrong).await.unwrap_err();

    let workers = Filter { kinds: vec![Kind::Worker], ..Filter::default() };
    let found = client(&server.uri(), once()).components(&workers).await.unwrap();
    assert_eq!(found.len(), COMPONENTS);
    assert!(found.iter().all(|found| (found.status, found.progress) == (Status::Healthy, BEATS)));
    let all = COMPONENTS as u64;
    for (line, value) in [
        ("sheaf_control_components{type=\"worker\",status=\"healthy\"}", all),
        ("sheaf_control_components{type=\"source\",status=\"expected\"}", 1),
        ("sheaf_control_pipelines{state=\"stopped\"}", 1),
        ("sheaf_control_beats_total{outcome=\"counted\"}", all * BEATS),
        ("sheaf_control_beats_total{outcome=\"stalled\"}", all),
        ("sheaf_control_beats_total{outcome=\"repeated\"}", all),
        ("sheaf_control_changes_total{type=\"worker\",to=\"healthy\"}", all),
        ("sheaf_control_refused_total{code=\"not_found\"}", 1),
        ("sheaf_control_commit_failures_total", 0),
    ] {
        assert_eq!(metric(&metrics, line), value, "{line}");
    }
    // Closed in good order, the last beats are on disk too.
    plane.close().await.unwrap();
    let plane = ControlPlane::open(options(), clock()).unwrap();
    let found = plane.select(workers).await.unwrap();
    assert!(found.len() == COMPONENTS && found.iter().all(|found| found.progress == BEATS));
}

#[tokio::test]
async fn more_than_a_page_is_read_page_by_page() {
    let plane = ControlPlane::open(Options::default(), clock()).unwrap();
    let server = serve("127.0.0.1:0", plane.clone()).await;
    for n in 0..1_234 {
        plane.register(worker(&format!("w{n:04}"))).await.unwrap();
    }
    let found = client(&server.uri(), once()).components(&Filter::default()).await.unwrap();
    let ids: Vec<String> = found.into_iter().map(|found| found.id).collect();
    let all: Vec<String> = (0..1_234).map(|n| format!("w{n:04}")).collect();
    assert_eq!(ids, all);
}
