//! What is counted is what happened, as an embedded coordinator counts it.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::registry::Registry;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Control, Coordinator, Lease, PurgeFilter, Resolution, State,
};
use sheaf_retry::SystemClock;
use sheaf_testkit::Valkey;

use crate::kit::{self, builder, connect};

/// The figures that every backend has.
fn figures(registry: &Registry) -> BTreeMap<String, String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let names = ["transitions_total{", "purged_total ", "wait_seconds_count "];
    text.lines()
        .filter_map(|line| line.strip_prefix("sheaf_coordinator_"))
        .filter(|line| names.iter().any(|name| line.starts_with(name)))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn claim(coordinator: &dyn Coordinator, name: &str, max: u32) -> Vec<Lease> {
    let wait = Duration::from_millis(100);
    let request = ClaimRequest { wait, ..kit::request("worker", name, max) };
    coordinator.claim(request).await.unwrap().leases
}

/// Ways in which batches go, in blocks and alone.
async fn work(coordinator: &dyn Coordinator) {
    coordinator.register(kit::specs("block-", 64)).await.unwrap();
    let child = BatchSpec { depends_on: vec!["one-000000".parse().unwrap()], ..kit::spec("child") };
    let late = BatchSpec { delay: Duration::from_millis(20), ..kit::spec("late") };
    coordinator.register([kit::specs("one-", 3), vec![child, late]].concat()).await.unwrap();
    // Registered again, nothing happens.
    coordinator.register(kit::specs("one-", 3)).await.unwrap();

    let whole = claim(coordinator, "whole", 32).await;
    assert_eq!(whole.len(), 32);
    coordinator.settle(kit::settle(&whole, Resolution::Completed)).await.unwrap();
    let few = claim(coordinator, "few", 9).await;
    let [failed, released, done] = [&few[..3], &few[3..6], &few[6..]];
    coordinator.settle(kit::settle(failed, Resolution::Failed)).await.unwrap();
    coordinator.settle(kit::settle(released, Resolution::Released)).await.unwrap();
    coordinator.settle(kit::settle(done, Resolution::Completed)).await.unwrap();
    // Settled again, nothing happens.
    coordinator.settle(kit::settle(done, Resolution::Completed)).await.unwrap();

    let ids: Vec<_> = ["block-000060", "block-000061"].map(|id| id.parse().unwrap()).into();
    coordinator.control(Control::Cancel(ids.clone())).await.unwrap();
    coordinator.control(Control::Requeue(ids[..1].to_vec())).await.unwrap();
    let mut left = 64 + 5 - 32 - 3 - 1;
    for turn in 0.. {
        let leases = claim(coordinator, &format!("rest-{turn}"), 100).await;
        left -= leases.len();
        coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
        if left == 0 {
            break;
        }
        assert!(turn < 600, "{left} do not come");
    }
    let purged = coordinator.control(Control::Purge(PurgeFilter::default())).await.unwrap();
    assert_eq!(purged.count, 64 + 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_is_counted_as_an_embedded_coordinator_counts_it() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let valkey = connect(builder(server.addr())).await;
    let embedded = Embedded::open(Config::memory(), SystemClock::shared()).unwrap();
    let (mut ours, mut theirs) = (Registry::default(), Registry::default());
    valkey.register_metrics(&mut ours);
    embedded.register_metrics(&mut theirs);
    work(&*valkey).await;
    work(&embedded).await;
    let counted = figures(&theirs);
    let completed = format!("transitions_total{{state=\"{}\"}}", State::Completed);
    assert_eq!(counted[&completed], "68");
    assert_eq!(counted["purged_total"], "69");
    assert_eq!(figures(&ours), counted);
}
