//! Stores and coordinators that have come apart.

use super::*;

use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{BatchSpec, Control, CoordinatorExt as _, State};
use sheaf_flight::ipc;
use sheaf_retry::SystemClock;
use sheaf_store::{Options, PutOptions};

const OWN: &str = "grpc://h:2";

/// A coordinator without state, and a reconciler between it and `store`.
fn beside(store: &Store, own: &[&str]) -> Reconciler {
    let clock = SystemClock::shared();
    let coordinator = Arc::new(Embedded::open(Config::memory(), clock.clone()).unwrap());
    let own: Vec<String> = own.iter().map(|text| (*text).to_owned()).collect();
    let owner = CoordinatorOwner::new(coordinator.clone(), clock.clone());
    Reconciler {
        coordinator,
        owner: Arc::new(owner.with_locations(own.clone())),
        store: store.clone(),
        is_beside: own.is_empty(),
        is_watched: false,
        own,
        clock,
        ttl: Duration::from_secs(3_600),
        reconnected: Arc::default(),
    }
}

async fn put(store: &Store, id: &str) {
    let schema = ipc::encode_schema(&arrow_schema::Schema::empty());
    let messages = Box::pin(futures::stream::iter([Ok(schema)]));
    store.put(Some(id.parse().unwrap()), messages, PutOptions::MEMORY).await.unwrap();
}

fn spec(id: &str, locations: &[&str]) -> BatchSpec {
    let locations = locations.iter().map(|text| (*text).to_owned()).collect();
    BatchSpec { locations, queue: "q".to_owned(), ..BatchSpec::new(id.parse().unwrap()) }
}

async fn places(reconciler: &Reconciler, id: &str) -> Option<Vec<String>> {
    let batch = reconciler.coordinator.get(&id.parse().unwrap()).await.unwrap();
    batch.map(|batch| batch.spec.locations)
}

#[tokio::test]
async fn live_batches_without_payload_are_counted() {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let reconciler = beside(&store, &[OWN]);
    let specs = vec![
        spec("here", &[OWN]),
        spec("gone", &[OWN]),
        spec("elsewhere", &["grpc://h:1"]),
        spec("beside-the-coordinator", &[]),
        spec("over", &[OWN]),
        spec("gone-too", &["grpc://h:1", OWN]),
    ];
    reconciler.coordinator.register(specs).await.unwrap();
    let cancel = Control::Cancel(vec!["over".parse().unwrap()]);
    reconciler.coordinator.control(cancel).await.unwrap();
    put(&store, "here").await;

    let found = reconciler.compare().await.unwrap();
    let names = vec!["gone".to_owned(), "gone-too".to_owned()];
    assert_eq!(found, Found { live: 3, missing: 2, names, added: 0 });
    assert_eq!(store.stats().registered, 1, "what others registered is kept from now on");
}

#[tokio::test]
async fn a_payload_that_is_here_too_or_now_is_made_known() {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let reconciler = beside(&store, &[OWN]);
    let old = "grpc://moved:1";
    let other = BatchSpec { checksum: "of another".to_owned(), ..spec("other", &[old]) };
    let specs = vec![spec("moved", &[old]), other];
    reconciler.coordinator.register(specs).await.unwrap();
    for name in ["moved", "other"] {
        put(&store, name).await;
    }
    let found = reconciler.compare().await.unwrap();
    assert_eq!((found.live, found.added), (0, 1));
    assert_eq!(places(&reconciler, "moved").await.unwrap(), [OWN, old]);
    assert_eq!(places(&reconciler, "other").await.unwrap(), [old], "another payload");
    let found = reconciler.compare().await.unwrap();
    assert_eq!((found.live, found.added), (1, 0), "once");
}

#[tokio::test]
async fn batches_that_a_coordinator_lost_are_registered_again() {
    let store = Store::open(Options::new(SystemClock::shared())).await.unwrap();
    let before = beside(&store, &[OWN]);
    let child = BatchSpec { depends_on: vec!["parent".parse().unwrap()], ..spec("child", &[OWN]) };
    let orphan = BatchSpec { depends_on: vec!["done".parse().unwrap()], ..spec("orphan", &[OWN]) };
    let specs = vec![spec("done", &[OWN]), spec("parent", &["grpc://old:1"]), child, orphan];
    before.coordinator.register(specs.clone()).await.unwrap();
    let cancel = Control::Cancel(vec!["done".parse().unwrap()]);
    for name in ["done", "parent", "child", "orphan", "never"] {
        put(&store, name).await;
    }
    let history = before.owner.history().await.unwrap();
    let marked: Vec<_> = specs[1..].iter().map(|spec| (spec.clone(), State::Waiting)).collect();
    before.mark(&marked, &history).await;
    before.coordinator.control(cancel).await.unwrap();
    assert_eq!(before.restore().await.unwrap().restored, 0, "it knows them");

    let after = beside(&store, &[OWN]);
    let restored = after.restore().await.unwrap();
    // One after the other, since all at once is refused: the parent comes first.
    assert_eq!((restored.restored, restored.names), (2, vec!["parent".into(), "child".into()]));
    let reason = restored.reason.unwrap();
    assert!(restored.refused == 1 && reason.contains("depends on done"), "{reason}");
    let parent = after.coordinator.get(&"parent".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((parent.state, parent.spec.queue.as_str()), (State::Pending, "q"));
    assert_eq!(parent.spec.locations, [OWN, "grpc://old:1"]);
    assert!(places(&after, "never").await.is_none(), "nobody registered it");
    let again = after.restore().await.unwrap();
    assert_eq!((again.restored, again.refused), (0, 1), "once; what was refused is tried again");

    // A third one knows some of them already, one of them as over.
    let third = beside(&store, &[]);
    third.coordinator.register(vec![spec("parent", &[]), spec("child", &[])]).await.unwrap();
    let cancel = Control::Cancel(vec!["child".parse().unwrap()]);
    third.coordinator.control(cancel).await.unwrap();
    assert_eq!(third.restore().await.unwrap().restored, 0);
    let history = third.owner.history().await.unwrap();
    let left = store.marked_unless(|place| history.has(sheaf_worker::position(place)), None, 9);
    assert_eq!(left.iter().map(BatchId::as_str).collect::<Vec<_>>(), ["child", "orphan"][1..]);
}

#[tokio::test]
async fn marks_that_cannot_be_read_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::new(SystemClock::shared()).with_data_dir(folder.path());
    let store = Store::open(options).await.unwrap();
    let before = beside(&store, &[OWN]);
    let specs = vec![spec("a", &[OWN]), spec("b", &[OWN])];
    before.coordinator.register(specs.clone()).await.unwrap();
    for name in ["a", "b"] {
        put(&store, name).await;
    }
    let history = before.owner.history().await.unwrap();
    let marked: Vec<_> = specs.into_iter().map(|spec| (spec, State::Pending)).collect();
    before.mark(&marked, &history).await;
    let journal = folder.path().join("registered.log");
    let mut bytes = std::fs::read(&journal).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&journal, &bytes).unwrap();
    let restored = beside(&store, &[OWN]).restore().await.unwrap();
    assert_eq!((restored.restored, restored.refused), (1, 1), "{restored:?}");
    assert!(restored.reason.unwrap().contains("by hand"));
}
