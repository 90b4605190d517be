//! Disks that are full, files that are torn, newer or taken.

use std::time::Duration;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadableTable as _, StorageBackend, TableDefinition, backends::FileBackend};
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_coordinator::{
    Answer, BatchSpec, Coordinator, Error, LeaseRef, Outcome, Query, Resolution, SettleRequest,
    State,
};
use sheaf_retry::{Code, ManualClock, Retryable as _, SystemClock, Timestamp};

const BATCHES: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("batches");

fn open(path: &std::path::Path) -> Result<Embedded, Error> {
    Embedded::open(Config::disk(path), SystemClock::shared())
}

async fn batch(coordinator: &Embedded, name: &str) -> Option<sheaf_coordinator::Batch> {
    match coordinator.query(Query::Get(vec![name.parse().unwrap()])).await.unwrap() {
        Answer::Batches(mut page) => page.batches.pop(),
        other => panic!("{other:?}"),
    }
}

/// A file that can be told to be full.
#[derive(Debug)]
struct Full {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Full {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Full {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // What is there can be written over; only growth needs room.
        if data.len() > 512 {
            self.check()?;
        }
        self.file.write(offset, data)
    }
}

/// A coordinator whose disk is full while `full` says so.
fn fillable(path: &std::path::Path, full: &Arc<AtomicBool>) -> Embedded {
    let (flag, name) = (full.clone(), path.to_owned());
    let opener = Arc::new(move || {
        let options = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name);
        let file = FileBackend::new(options.unwrap())?;
        Database::builder().create_with_backend(Full { file, full: flag.clone() })
    });
    let config = Config::disk(path);
    Embedded::open_with(config, SystemClock::shared(), "test".to_owned(), opener).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_waits_ends_in_time_though_the_disk_is_full() {
    let home = super::directory();
    let full = Arc::new(AtomicBool::new(false));
    let coordinator = fillable(&super::file(home.path()), &full);
    let wait = std::time::Duration::from_millis(500);
    let waiting =
        coordinator.claim(sheaf_coordinator::ClaimRequest { wait, ..super::claim("r", 1) });
    let failing = async {
        full.store(true, Ordering::SeqCst);
        // Of another queue: it is not what the claim waits for.
        let mut spec = super::spec("a");
        spec.queue = "other".to_owned();
        coordinator.register(vec![spec]).await.unwrap_err()
    };
    let limit = std::time::Duration::from_secs(20);
    let both = async { tokio::join!(biased; waiting, failing) };
    let (claim, error) = tokio::time::timeout(limit, both).await.expect("the claim hangs");
    assert_eq!(error.code(), Code::DiskFull);
    assert_eq!(claim.unwrap().leases, vec![], "nothing was there to be had");
}

/// What waited for the end of a batch still does, when the end was not stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_waiting_batches_as_they_were() {
    let home = super::directory();
    let full = Arc::new(AtomicBool::new(false));
    let coordinator = fillable(&super::file(home.path()), &full);
    let child = BatchSpec { depends_on: vec!["p".parse().unwrap()], ..super::spec("child") };
    coordinator.register(vec![super::spec("p"), child]).await.unwrap();
    let lease = coordinator.claim(super::claim("r", 1)).await.unwrap().leases.remove(0);
    let outcome = Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: vec![],
        delay: std::time::Duration::ZERO,
    };
    let settle = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
    full.store(true, Ordering::SeqCst);
    assert_eq!(coordinator.settle(settle.clone()).await.unwrap_err().code(), Code::DiskFull);
    assert_eq!(batch(&coordinator, "child").await.unwrap().state, State::Waiting);
    full.store(false, Ordering::SeqCst);
    coordinator.settle(settle).await.unwrap();
    assert_eq!(batch(&coordinator, "child").await.unwrap().state, State::Pending);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_changes_nothing_and_work_resumes() {
    let home = super::directory();
    let path = super::file(home.path());
    let full = Arc::new(AtomicBool::new(false));
    let coordinator = fillable(&path, &full);
    coordinator.register(vec![super::spec("a"), super::spec("b")]).await.unwrap();
    let lease = coordinator.claim(super::claim("r", 1)).await.unwrap().leases.remove(0);
    let outcome = Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: vec![super::spec("out")],
        delay: Duration::ZERO,
    };
    let settle = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };

    full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let errors = [
            coordinator.register(vec![super::spec("c")]).await.unwrap_err().code(),
            coordinator.settle(settle.clone()).await.unwrap_err().code(),
            coordinator.claim(super::claim("r2", 1)).await.unwrap_err().code(),
        ];
        assert_eq!(errors, [Code::DiskFull; 3]);
        // Not ahead of the disk, and reading still works.
        assert!(batch(&coordinator, "c").await.is_none());
        assert_eq!(batch(&coordinator, "a").await.unwrap().state, State::Processing);
        assert_eq!(batch(&coordinator, "b").await.unwrap().state, State::Pending);
    }
    full.store(false, Ordering::SeqCst);
    assert!(coordinator.register(vec![super::spec("c")]).await.unwrap()[0].created);
    coordinator.settle(settle).await.unwrap();
    assert_eq!(batch(&coordinator, "a").await.unwrap().state, State::Completed);
    coordinator.close().await.unwrap();
    drop(coordinator);
    let reopened = open(&path).unwrap();
    for (name, state) in [
        ("a", State::Completed),
        ("b", State::Pending),
        ("c", State::Pending),
        ("out", State::Pending),
    ] {
        assert_eq!(batch(&reopened, name).await.unwrap().state, state, "{name}");
    }
}

#[tokio::test]
async fn a_file_has_one_owner() {
    let home = super::directory();
    let path = super::file(home.path());
    let first = open(&path).unwrap();
    assert_eq!(open(&path).unwrap_err().code(), Code::DirectoryLocked);
    first.close().await.unwrap();
    open(&path).unwrap();
}

#[test]
fn a_missing_directory_is_named() {
    let home = super::directory();
    let error = open(&home.path().join("nowhere/coordinator.redb")).unwrap_err();
    assert_eq!(error.code(), Code::Io);
    assert!(error.to_string().contains("nowhere"), "{error}");
}

/// Registers three batches and closes.
async fn three(path: &std::path::Path) {
    let coordinator = open(path).unwrap();
    coordinator.register(["a", "b", "c"].map(super::spec).to_vec()).await.unwrap();
    coordinator.close().await.unwrap();
}

fn rewrite(path: &std::path::Path, change: impl FnOnce(&mut Vec<u8>)) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(BATCHES).unwrap();
        let mut bytes = table.get(2).unwrap().unwrap().value().to_vec();
        change(&mut bytes);
        table.insert(2, bytes.as_slice()).unwrap();
    }
    write.commit().unwrap();
}

/// Turns some bits of the second batch of a file.
pub(super) fn break_second(path: &std::path::Path) {
    rewrite(path, |bytes| {
        let last = bytes.len() - 8;
        bytes[last] ^= 0x55;
    });
}

#[tokio::test]
async fn one_damaged_record_fails_alone() {
    let home = super::directory();
    let path = super::file(home.path());
    three(&path).await;
    break_second(&path);
    for _ in 0..2 {
        let coordinator = open(&path).unwrap();
        let damaged = batch(&coordinator, "b").await.unwrap();
        assert_eq!((damaged.state, damaged.error.unwrap().code), (State::Failed, Code::Corrupt));
        for name in ["a", "c"] {
            assert_eq!(batch(&coordinator, name).await.unwrap().state, State::Pending);
        }
        coordinator.close().await.unwrap();
    }
    rewrite(&path, |bytes| bytes.truncate(3));
    let coordinator = open(&path).unwrap();
    assert_eq!(batch(&coordinator, "corrupt-2").await.unwrap().state, State::Failed);
}

#[tokio::test]
async fn a_newer_file_is_refused_and_left_alone() {
    let home = super::directory();
    let path = super::file(home.path());
    three(&path).await;
    rewrite(&path, |bytes| bytes[1] = 99);
    let error = open(&path).unwrap_err();
    assert_eq!(error.code(), Code::FormatNewer);
    assert!(error.to_string().contains("version 99"), "{error}");
    rewrite(&path, |bytes| bytes[1] = 2);
    let coordinator = open(&path).unwrap();
    assert_eq!(batch(&coordinator, "b").await.unwrap().state, State::Pending);
}

#[tokio::test]
async fn a_torn_file_is_an_error_and_no_panic() {
    let home = super::directory();
    let path = super::file(home.path());
    three(&path).await;
    let whole = std::fs::read(&path).unwrap();
    let mut opened = 0;
    for cut in [0, 1, 100, 4_095, 4_096, 5_000, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        match open(&path) {
            Ok(coordinator) if cut > 0 => {
                // Only if nothing of what was acknowledged is missing.
                assert!(batch(&coordinator, "c").await.is_some(), "cut at {cut}");
                opened += 1;
            }
            Ok(coordinator) => assert!(batch(&coordinator, "a").await.is_none()),
            Err(error) => assert_eq!(error.code(), Code::Corrupt, "cut at {cut}: {error:?}"),
        }
    }
    assert!(opened < 7, "a cut is noticed");
    for other in [&b"no database at all"[..], &[0xA5; 40_000]] {
        std::fs::write(&path, other).unwrap();
        let error = open(&path).unwrap_err();
        assert_eq!(error.code(), Code::Corrupt, "{error:?}");
        assert!(error.to_string().contains("move it away"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), other, "left as it was");
    }
    let mut longer = whole.clone();
    longer.extend_from_slice(&[0xA5; 5_000]);
    std::fs::write(&path, &longer).unwrap();
    assert_eq!(open(&path).unwrap_err().code(), Code::Corrupt, "so is garbage behind the end");
    assert_eq!(std::fs::read(&path).unwrap(), longer, "the file is left for whoever mends it");
    std::fs::write(&path, &whole).unwrap();
    assert!(batch(&open(&path).unwrap(), "c").await.is_some());
}

#[tokio::test]
async fn tokens_ascend_though_the_file_is_older_and_the_clock_behind() {
    let home = super::directory();
    let path = super::file(home.path());
    let at = |seconds: u64| ManualClock::new(Timestamp::from_millis(seconds * 1_000));
    let first = Embedded::open(Config::disk(&path), at(1_000_000)).unwrap();
    first.register(vec![super::spec("a")]).await.unwrap();
    // As a crash leaves it that loses what came after.
    let older = std::fs::read(&path).unwrap();
    let lost = first.claim(super::claim("r", 1)).await.unwrap().leases.remove(0);
    first.close().await.unwrap();
    std::fs::write(&path, older).unwrap();
    let second = Embedded::open(Config::disk(&path), at(900_000)).unwrap();
    let lease = second.claim(super::claim("r", 1)).await.unwrap().leases.remove(0);
    assert_eq!(lease.spec.id, lost.spec.id, "the claim was lost");
    assert!(lease.fence > lost.fence, "{} after {}", lease.fence, lost.fence);
}
