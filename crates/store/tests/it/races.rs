//! Calls that meet half-way, and calls that are given up half-way.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::Error;
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{
    Asked, Budget, Disk, Mark, Options, PayloadInfo, PayloadOwner, PutOptions, Standing, Store,
};
use sheaf_testkit::{TempDir, wait_until_async};

use crate::support::{LONG, asleep, batch, clock, get, id, messages, options, put, stream_of};

const HOUR: Duration = Duration::from_secs(3_600);

/// A door that work on the disk waits at while it is closed.
#[derive(Default)]
struct Door {
    state: Mutex<(bool, u32)>,
    changed: Condvar,
}

impl Door {
    fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.0 {
            state.1 += 1;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |state| state.0).unwrap());
        }
    }

    async fn somebody_waits(&self) {
        let waits = || async { self.state.lock().unwrap().1 > 0 };
        wait_until_async(LONG, "work to reach the door", waits).await.unwrap();
    }
}

/// A disk with doors, and one that fails on demand.
#[derive(Default)]
struct Doors {
    write: Door,
    remove: Door,
    sync_dir: Door,
    sync_dir_fails: AtomicBool,
    synced: Mutex<HashSet<PathBuf>>,
}

impl Disk for Doors {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        self.write.pass();
        io::Write::write_all(&mut file, bytes)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.remove.pass();
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_dir.pass();
        if self.sync_dir_fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.synced.lock().unwrap().insert(path.to_path_buf());
        File::open(path)?.sync_all()
    }
}

type Hook = Box<dyn FnOnce() + Send>;

/// Says that nobody registered anything, after it did something else; or
/// never answers.
#[derive(Default)]
struct Slow {
    hook: Mutex<Option<Hook>>,
    asked: AtomicBool,
    silent: AtomicBool,
}

#[async_trait]
impl PayloadOwner for Slow {
    async fn standings(&self, payloads: &[Asked]) -> Result<Vec<Standing>, Error> {
        self.asked.store(true, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if let Some(hook) = self.hook.lock().unwrap().take() {
            hook();
        }
        Ok(vec![Standing::Unregistered; payloads.len()])
    }

    async fn register(&self, _: &PayloadInfo) -> Result<Option<Mark>, Error> {
        Ok(None)
    }
}

#[tokio::test]
async fn what_is_used_while_the_owner_is_asked_does_not_expire() {
    let (clock, owner) = (clock(), Arc::new(Slow::default()));
    let store = Options::new(clock.clone()).with_owner(owner.clone());
    let store = Store::open(store).await.unwrap();
    let sent = messages(&[batch(1, 5)]);
    put(&store, "x", &sent, PutOptions::MEMORY).await.unwrap();
    // A registration looks the payload up, which renews it, while the answer
    // that nobody registered it is on its way; no clock tick passes.
    let other = store.clone();
    *owner.hook.lock().unwrap() = Some(Box::new(move || {
        other.renew(&id("x")).unwrap();
    }));
    asleep(&clock).await;
    clock.advance(HOUR);
    wait_until_async(LONG, "the owner to be asked", || async {
        owner.asked.load(Ordering::SeqCst)
    })
    .await
    .unwrap();
    asleep(&clock).await;
    store.info(&id("x")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_removed_cannot_be_renewed() {
    let folder = TempDir::new().unwrap();
    let (clock, disk) = (clock(), Arc::new(Doors::default()));
    let options = Options::new(clock.clone()).with_data_dir(folder.path()).with_disk(disk.clone());
    let store = Store::open(options).await.unwrap();
    let sent = messages(&[batch(1, 5)]);
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    disk.remove.close();
    asleep(&clock).await;
    clock.advance(HOUR);
    disk.remove.somebody_waits().await;
    // Too late: whoever registers it now must hear that it is gone.
    let renewed = store.renew(&id("x")).is_ok();
    disk.remove.open();
    let gone = || async { store.info(&id("x")).is_err() };
    wait_until_async(LONG, "the payload to expire", gone).await.unwrap();
    assert!(!renewed, "it was renewed and removed all the same");
    // The name is free.
    assert!(put(&store, "x", &sent, PutOptions::DISK).await.unwrap().created);
    assert_eq!(get(&store, "x").await.unwrap(), sent);
}

#[tokio::test]
async fn a_put_is_not_acknowledged_by_a_file_that_a_failed_delete_removed() {
    let folder = TempDir::new().unwrap();
    let disk = Arc::new(Doors::default());
    let options = options(folder.path()).with_disk(disk.clone()).with_budget(Budget::new(1 << 30));
    let store = Store::open(options.clone()).await.unwrap();
    let sent = messages(&[batch(1, 5)]);
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    disk.sync_dir_fails.store(true, Ordering::SeqCst);
    let error = store.delete(&id("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::Io, "{error}");
    disk.sync_dir_fails.store(false, Ordering::SeqCst);
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    store.close().await;
    drop(store);
    let store = Store::open(options).await.unwrap();
    assert_eq!(get(&store, "x").await.unwrap(), sent, "an acknowledged payload is gone");
}

#[test]
fn a_reader_finds_a_payload_that_moves_from_the_spill_to_its_own_file() {
    // One thread for blocking work, so that the test decides on the order.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = TempDir::new().unwrap();
        let disk = Arc::new(Doors::default());
        let sent = messages(&[batch(1, 50)]);
        let bytes: usize = sent.iter().map(sheaf_flight::Message::len).sum();
        let budget = Budget::new(bytes as u64 * 3 / 2);
        let options = options(folder.path()).with_disk(disk.clone()).with_budget(budget);
        let store = Store::open(options).await.unwrap();
        put(&store, "x", &sent, PutOptions::MEMORY).await.unwrap();
        put(&store, "y", &messages(&[batch(2, 50)]), PutOptions::MEMORY).await.unwrap();
        assert_eq!(store.stats().spilled, 1);
        disk.sync_dir.close();
        let (other, again) = (store.clone(), stream_of(&sent));
        let persist =
            tokio::spawn(async move { other.put(Some(id("x")), again, PutOptions::DISK).await });
        disk.sync_dir.somebody_waits().await;
        // Queued behind the sync: first the test's own blocker, then the reader.
        let blocker = Arc::new(Door::default());
        blocker.close();
        let blocks = Arc::clone(&blocker);
        let blocked = tokio::task::spawn_blocking(move || blocks.pass());
        let other = store.clone();
        let mut reading = Box::pin(async move { get(&other, "x").await });
        assert!(futures::poll!(&mut reading).is_pending());
        disk.sync_dir.open();
        persist.await.unwrap().unwrap();
        blocker.open();
        blocked.await.unwrap();
        assert_eq!(reading.await.unwrap(), sent);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_given_up_while_it_makes_room_gives_its_disk_back() {
    let folder = TempDir::new().unwrap();
    let disk = Arc::new(Doors::default());
    let sent = messages(&[batch(1, 50)]);
    let bytes: usize = sent.iter().map(sheaf_flight::Message::len).sum();
    let budget = Budget::new(bytes as u64 * 3 / 2);
    let options = options(folder.path()).with_disk(disk.clone()).with_budget(budget);
    let store = Store::open(options).await.unwrap();
    put(&store, "x", &sent, PutOptions::MEMORY).await.unwrap();
    disk.write.close();
    let other = store.clone();
    let given_up = tokio::spawn(async move {
        put(&other, "y", &messages(&[batch(2, 50)]), PutOptions::MEMORY).await
    });
    disk.write.somebody_waits().await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    disk.write.open();
    let spill = folder.path().join("batches/_tmp");
    let empty = || async { std::fs::read_dir(&spill).unwrap().count() == 0 };
    wait_until_async(LONG, "the unfinished file to go", empty).await.unwrap();
    assert_eq!(store.stats().disk_bytes, 0, "bytes on disk that no file has");
    assert_eq!(get(&store, "x").await.unwrap(), sent);
}

#[tokio::test]
async fn the_names_of_new_directories_are_synced_up_to_one_that_was_there() {
    let folder = TempDir::new().unwrap();
    let disk = Arc::new(Doors::default());
    let data = folder.path().join("a/b/data");
    let store = Store::open(options(&data).with_disk(disk.clone())).await.unwrap();
    let synced = disk.synced.lock().unwrap().clone();
    for wanted in [folder.path(), &folder.path().join("a"), &folder.path().join("a/b"), &data] {
        assert!(synced.contains(wanted), "{} was not synced", wanted.display());
    }
    store.close().await;
}

#[tokio::test]
async fn an_owner_that_does_not_answer_does_not_keep_a_store_from_closing() {
    let (clock, owner) = (clock(), Arc::new(Slow::default()));
    owner.silent.store(true, Ordering::SeqCst);
    let store = Options::new(clock.clone()).with_owner(owner.clone());
    let store = Store::open(store).await.unwrap();
    put(&store, "x", &messages(&[batch(1, 5)]), PutOptions::MEMORY).await.unwrap();
    asleep(&clock).await;
    clock.advance(HOUR);
    wait_until_async(LONG, "the owner to be asked", || async {
        owner.asked.load(Ordering::SeqCst)
    })
    .await
    .unwrap();
    tokio::time::timeout(LONG, store.close()).await.expect("closed");
}
