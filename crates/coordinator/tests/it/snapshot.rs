//! Copies of a coordinator that goes on working.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::embedded::{Config, Durability, Embedded, inspect};
use sheaf_coordinator::{
    Batch, BatchSpec, Control, Coordinator, CoordinatorExt as _, LeaseRef, ListFilter, Outcome,
    Resolution, SettleRequest, State,
};
use sheaf_retry::{Code, ManualClock, Retryable as _, Timestamp};

use super::{claim, directory, spec};

const START: Timestamp = Timestamp::from_millis(1_760_000_000_000);

fn open(path: std::path::PathBuf, durability: Durability, clock: &Arc<ManualClock>) -> Embedded {
    let config = Config { durability, ..Config::disk(path) };
    Embedded::open(config, clock.clone()).unwrap()
}

async fn everything(coordinator: &Embedded) -> BTreeMap<String, Batch> {
    let mut all = BTreeMap::new();
    let mut filter = ListFilter { limit: 10_000, ..ListFilter::default() };
    loop {
        let page = coordinator.list(filter.clone()).await.unwrap();
        all.extend(page.batches.into_iter().map(|batch| (batch.spec.id.to_string(), batch)));
        if page.next_cursor.is_empty() {
            return all;
        }
        filter.cursor = page.next_cursor;
    }
}

async fn work(coordinator: &Embedded, name: &str, max: u32) -> u64 {
    let leases = coordinator.claim(claim(name, max)).await.unwrap().leases;
    let greatest = leases.iter().map(|lease| lease.fence.0).max().unwrap();
    let outcomes = leases.into_iter().map(|lease| Outcome {
        lease: LeaseRef { id: lease.spec.id, fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: vec![],
        delay: std::time::Duration::ZERO,
    });
    let settle = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
    coordinator.settle(settle).await.unwrap();
    greatest
}

/// One batch for each step of the original's life: every state of a pair of
/// batches that change together must be of one point.
async fn copy_under_load(durability: Durability) {
    let home = directory();
    let clock = ManualClock::new(START);
    let original = Arc::new(open(home.path().join("a.redb"), durability, &clock));
    let specs: Vec<BatchSpec> = (0..9_000).map(|n| spec(&format!("b{n:05}"))).collect();
    original.register(specs).await.unwrap();
    work(&original, "before", 1_000).await;
    original.control(Control::Pause("other".to_owned())).await.unwrap();

    let path = home.path().join("copy.redb");
    let copying = {
        let (original, path) = (Arc::clone(&original), path.clone());
        tokio::spawn(async move { original.snapshot_to(path).await })
    };
    // Cancels the first and the last in one call, over and over: a copy that
    // is not of one point has one of them without the other.
    let mut round = 0_usize;
    while !copying.is_finished() {
        if round < 3_900 {
            let pair = [round + 1_000, 8_999 - round];
            let ids = pair.map(|n| format!("b{n:05}").parse().unwrap());
            original.control(Control::Cancel(ids.to_vec())).await.unwrap();
        }
        let more = BatchSpec { queue: "later".to_owned(), ..spec(&format!("later{round}")) };
        original.register(vec![more]).await.unwrap();
        round += 1;
    }
    let made = copying.await.unwrap().unwrap();
    let mut after = work(&original, "after", 8).await;
    let again = original.snapshot_to(&path).await.unwrap_err();
    assert_eq!(again.code(), Code::AlreadyExists, "{again}");
    for n in 0..3 {
        original.close().await.unwrap();
        let reopened = open(home.path().join("a.redb"), durability, &clock);
        reopened.register(vec![spec(&format!("more{n}"))]).await.unwrap();
        after = after.max(work(&reopened, &format!("again{n}"), 8).await);
        reopened.close().await.unwrap();
    }

    let copy = open(path, durability, &clock);
    let all = everything(&copy).await;
    assert_eq!(all.len() as u64, made.batches);
    assert!(all.len() >= 9_000);
    for n in 1_000..4_900 {
        let pair = [n, 9_999 - n].map(|n| all[&format!("b{n:05}")].state);
        assert_eq!(pair[0], pair[1], "b{n} and its other half are of one point");
    }
    let completed = all.values().filter(|batch| batch.state == State::Completed).count();
    assert_eq!(completed, 1_000);
    let paused = copy.stats(Some("other")).await.unwrap().remove(0).paused;
    assert!(paused, "switches are copied");
    let lease = copy.claim(claim("copy", 1)).await.unwrap().leases.remove(0);
    assert!(lease.fence.0 > after, "{} is not above {after}", lease.fence);
    assert!(lease.fence > made.last_fence);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_point_while_work_goes_on_on_disk() {
    copy_under_load(Durability::Disk).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_point_while_work_goes_on_in_memory() {
    copy_under_load(Durability::Memory).await;
}

#[tokio::test]
async fn a_coordinator_without_a_file_is_copied_too() {
    let home = directory();
    let clock = ManualClock::new(START);
    let original = Embedded::open(Config::memory(), clock.clone()).unwrap();
    original.register(vec![spec("a")]).await.unwrap();
    let path = home.path().join("copy.redb");
    let made = original.snapshot_to(&path).await.unwrap();
    assert_eq!((made.batches, made.queues, made.at >= START), (1, 1, true));
    let fence = original.claim(claim("r", 1)).await.unwrap().leases[0].fence;
    let copy = open(path, Durability::Disk, &clock);
    let lease = copy.claim(claim("r", 1)).await.unwrap().leases.remove(0);
    assert!(lease.fence > fence);
}

/// The backup is kept and restored twice, the second time after the first.
#[tokio::test]
async fn later_openings_of_one_copy_have_greater_tokens() {
    let home = directory();
    let clock = ManualClock::new(START);
    let original = open(home.path().join("a.redb"), Durability::Disk, &clock);
    original.register(vec![spec("a")]).await.unwrap();
    let backup = home.path().join("backup.redb");
    original.snapshot_to(&backup).await.unwrap();
    let mut last = 0;
    for n in 0..3 {
        let path = home.path().join(format!("restored{n}.redb"));
        std::fs::copy(&backup, &path).unwrap();
        for round in 0..2 {
            let restored = open(path.clone(), Durability::Disk, &clock);
            let name = format!("r{n}{round}");
            restored.register(vec![spec(&name)]).await.unwrap();
            let lease = restored.claim(claim(&name, 1)).await.unwrap().leases.remove(0);
            assert!(lease.fence.0 > last, "{} is not above {last}", lease.fence);
            last = lease.fence.0;
            restored.close().await.unwrap();
        }
        clock.advance(Duration::from_secs(3 * 3_600));
    }
}

#[tokio::test]
async fn a_copy_that_cannot_be_written_leaves_nothing_and_another_can_be_made() {
    let home = directory();
    let clock = ManualClock::new(START);
    let original = open(home.path().join("a.redb"), Durability::Disk, &clock);
    original.register(vec![spec("a")]).await.unwrap();
    let missing = original.snapshot_to(home.path().join("no/copy.redb")).await.unwrap_err();
    assert_eq!(missing.code(), Code::Io, "{missing}");
    std::fs::write(home.path().join("copy.redb.partial"), b"left by a crash").unwrap();
    original.snapshot_to(home.path().join("copy.redb")).await.unwrap();
    let files: Vec<_> = std::fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files.len(), 2, "{files:?}");
    original.close().await.unwrap();
    let closed = original.snapshot_to(home.path().join("late.redb")).await.unwrap_err();
    assert_eq!(closed.code(), Code::Draining, "{closed}");
}

/// Looking at a copy is no opening of it, and finds what was copied.
#[tokio::test]
async fn a_copy_is_looked_at_without_a_change() {
    let home = directory();
    let clock = ManualClock::new(START);
    let original = open(home.path().join("a.redb"), Durability::Disk, &clock);
    let mut far = spec("far");
    far.locations = vec!["grpc://h:1".to_owned()];
    original.register(vec![spec("a"), spec("b"), far]).await.unwrap();
    original.control(Control::Cancel(vec!["b".parse().unwrap()])).await.unwrap();
    let path = home.path().join("copy.redb");
    let made = original.snapshot_to(&path).await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let mut seen = Vec::new();
    let found = inspect(&path, |batch| seen.push(batch)).unwrap();
    assert_eq!((found.batches, found.live, found.damaged), (3, 2, 0));
    assert_eq!((found.at, found.queues, found.last_fence), (made.at, made.queues, made.last_fence));
    let names: Vec<_> = seen.iter().map(|batch| (batch.id.as_str(), batch.state)).collect();
    let wanted = [("a", State::Pending), ("b", State::Cancelled), ("far", State::Pending)];
    assert_eq!(names, wanted);
    assert_eq!(seen[2].locations, ["grpc://h:1"]);
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was written");

    let locked = inspect(&home.path().join("a.redb"), |_| ()).unwrap_err();
    assert_eq!(locked.code(), Code::DirectoryLocked, "{locked}");
    let missing = inspect(&home.path().join("none.redb"), |_| ()).unwrap_err();
    assert_eq!(missing.code(), Code::Io, "{missing}");
    for damaged in [&bytes[..bytes.len() / 2], b"no database"] {
        let path = home.path().join("damaged.redb");
        std::fs::write(&path, damaged).unwrap();
        let error = inspect(&path, |_| ()).unwrap_err();
        assert!(error.to_string().contains("damaged.redb"), "{error}");
    }
}
