//! Memory and disk that are too small.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_flight::Message;
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{Budget, Disk, Options, PutOptions, ReadOptions, Store};
use sheaf_testkit::{TempDir, wait_until_async};

use crate::support::{batch, files, get, id, messages, options, put, stream_of};

const LONG: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test]
async fn without_a_directory_a_full_store_refuses_and_keeps_what_it_has() {
    let budget = Budget::new(40_000);
    let options = Options::new(SystemClock::shared()).with_budget(Arc::clone(&budget));
    let store = Store::open(options).await.unwrap();
    let sent: Vec<_> = (0..20).map(|seed| messages(&[batch(seed, 30)])).collect();
    let mut stored = Vec::new();
    for (number, messages) in sent.iter().enumerate() {
        match put(&store, &number.to_string(), messages, PutOptions::MEMORY).await {
            Ok(_) => stored.push(number),
            Err(error) => {
                assert_eq!(error.code(), Code::MemoryFull);
                assert!(error.retry_after().is_some());
            }
        }
        assert!(budget.used() <= 40_000);
    }
    assert!(stored.len() > 1 && stored.len() < 20, "{stored:?}");
    for number in &stored {
        assert_eq!(get(&store, &number.to_string()).await.unwrap(), sent[*number]);
    }
    store.delete(&"0".parse().unwrap()).await.unwrap();
    put(&store, "again", &sent[0], PutOptions::MEMORY).await.unwrap();
}

#[tokio::test]
async fn with_a_directory_the_coldest_go_to_disk_and_all_is_served() {
    let folder = TempDir::new().unwrap();
    let budget = Budget::new(60_000);
    let options = options(folder.path()).with_budget(Arc::clone(&budget));
    let store = Store::open(options.clone()).await.unwrap();
    let sent: Vec<_> = (0..40).map(|seed| messages(&[batch(seed, 30), batch(seed, 3)])).collect();
    for (number, messages) in sent.iter().enumerate() {
        let how = if number % 2 == 0 { PutOptions::MEMORY } else { PutOptions::DISK };
        put(&store, &number.to_string(), messages, how).await.unwrap();
        assert!(budget.used() <= 60_000, "{}", budget.used());
        // Used all the time: it stays in memory.
        get(&store, "0").await.unwrap();
    }
    let stats = store.stats();
    assert!(stats.spilled > 5, "{stats:?}");
    for (number, messages) in sent.iter().enumerate() {
        assert_eq!(get(&store, &number.to_string()).await.unwrap(), *messages);
    }
    // What was spilled can be made durable yet, and the rest ends here.
    put(&store, "2", &sent[2], PutOptions::DISK).await.unwrap();
    store.close().await;
    drop(store);
    let store = Store::open(options).await.unwrap();
    assert_eq!(store.stats().payloads, 21);
    assert_eq!(get(&store, "2").await.unwrap(), sent[2]);
    assert_eq!(files(folder.path(), "arrow").len(), 21);
}

#[tokio::test]
async fn a_stream_larger_than_memory_is_written_as_it_comes() {
    let folder = TempDir::new().unwrap();
    let budget = Budget::new(100_000);
    let options = options(folder.path()).with_budget(Arc::clone(&budget));
    let store = Store::open(options).await.unwrap();
    let batches: Vec<_> = (0..60).map(|seed| batch(seed, 50)).collect();
    let sent = messages(&batches);
    for how in [PutOptions::DISK, PutOptions::MEMORY] {
        let name = format!("{:?}", how.durability);
        put(&store, &name, &sent, how).await.unwrap();
        assert_eq!(get(&store, &name).await.unwrap(), sent);
    }
    assert_eq!(budget.used(), 0);
    let huge = messages(&[batch(1, 5_000)]);
    let error = put(&store, "huge", &huge, PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::MemoryFull);
}

#[tokio::test]
async fn a_quota_of_the_namespace_and_a_limit_of_the_disk_hold() {
    let folder = TempDir::new().unwrap();
    let mut options = options(folder.path());
    options.disk_limit_bytes = Some(50_000);
    options.quota_bytes = Some(10_000_000);
    let store = Store::open(options).await.unwrap();
    assert_eq!(store.stats().memory_limit_bytes, 10_000_000);
    let sent = messages(&[batch(1, 100)]);
    let mut refused = 0;
    for number in 0..10 {
        if let Err(error) = put(&store, &number.to_string(), &sent, PutOptions::DISK).await {
            assert_eq!(error.code(), Code::DiskFull);
            refused += 1;
        }
    }
    assert!((1..10).contains(&refused), "{refused}");
    assert!(store.stats().disk_bytes <= 60_000);
}

#[tokio::test]
async fn a_put_that_is_still_open_counts_against_the_limit_of_the_disk() {
    let folder = TempDir::new().unwrap();
    let budget = Budget::new(100_000);
    let mut options = options(folder.path()).with_budget(budget);
    options.disk_limit_bytes = Some(300_000);
    let store = Store::open(options).await.unwrap();
    let batches: Vec<_> = (0..200).map(|seed| batch(seed, 50)).collect();
    let all = messages(&batches);
    assert!(all.iter().map(Message::len).sum::<usize>() > 300_000);
    // Refused in the middle, not at its end.
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let stream = futures::stream::iter(all.clone().into_iter().map(move |message| {
        counted.fetch_add(message.len() as u64, Ordering::SeqCst);
        Ok(message)
    }));
    let error = store.put(Some(id("huge")), Box::pin(stream), PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert!(taken.load(Ordering::SeqCst) <= 450_000, "{taken:?}");
    assert_eq!(store.stats().disk_bytes, 0);

    // One that does not go on holds its part, and gives it back when dropped.
    let some = stream_of(&all[..all.len() / 4]).chain(futures::stream::pending()).boxed();
    let (open, held) = (store.clone(), store.clone());
    let put = tokio::spawn(async move { open.put(Some(id("open")), some, PutOptions::DISK).await });
    let counts = || async { held.stats().disk_bytes > 50_000 };
    wait_until_async(LONG, "the open put to count", counts).await.unwrap();
    put.abort();
    let free = || async { held.stats().disk_bytes == 0 };
    wait_until_async(LONG, "its part to be free", free).await.unwrap();
}

/// A call is polled while its client reads: where it waited itself for its turn
/// to make room, everybody behind it would wait for that client.
#[tokio::test]
async fn who_asked_for_room_and_looks_no_more_keeps_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path()).with_budget(Budget::new(60_000))).await.unwrap();
    let sent = messages(&[batch(1, 30), batch(2, 3)]);
    let memory = store.memory();
    for number in 0..40 {
        put(&store, &number.to_string(), &sent, PutOptions::MEMORY).await.unwrap();
    }
    let mut unseen: Vec<_> = (0..3).map(|_| memory.make_room(60_000)).collect();
    for room in &mut unseen {
        assert!(futures::poll!(room).is_pending());
    }
    for number in 40..80 {
        let name = number.to_string();
        let put = put(&store, &name, &sent, PutOptions::MEMORY);
        tokio::time::timeout(LONG, put).await.expect("nobody to wait for").unwrap();
    }
    let made = tokio::time::timeout(LONG, memory.make_room(60_000)).await;
    assert!(made.expect("nobody to wait for"));
}

#[tokio::test]
async fn a_mark_of_a_payload_that_is_gone_does_not_pin_the_next() {
    let folder = TempDir::new().unwrap();
    let options = options(folder.path());
    let sent = messages(&[batch(1, 10)]);
    let store = Store::open(options.clone()).await.unwrap();
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    store.pin(&id("x")).await.unwrap();
    store.close().await;
    drop(store);
    let mark = files(folder.path(), "pin").remove(0);
    std::fs::remove_file(files(folder.path(), "arrow").remove(0)).unwrap();
    let store = Store::open(options.clone()).await.unwrap();
    assert!(!mark.exists());
    // And one that appears while the store is open.
    std::fs::write(&mark, b"").unwrap();
    put(&store, "x", &sent, PutOptions::DISK).await.unwrap();
    store.close().await;
    drop(store);
    let store = Store::open(options).await.unwrap();
    assert_eq!((store.stats().payloads, store.stats().pinned), (1, 0));
    store.delete(&id("x")).await.unwrap();
}

/// Has room for so many bytes.
struct SmallDisk(AtomicU64);

impl Disk for SmallDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        let wanted = bytes.len() as u64;
        let took = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(wanted));
        if took.is_err() {
            // As a real one: some of it is written.
            io::Write::write_all(&mut file, &bytes[..bytes.len() / 2])?;
            // EIO.
            return Err(io::ErrorKind::StorageFull.into());
        }
        io::Write::write_all(&mut file, bytes)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            // The moment in which even the directory finds no room.
            1 => Err(io::ErrorKind::StorageFull.into()),
            _ => File::open(path)?.sync_all(),
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_leaves_nothing_and_works_again() {
    let folder = TempDir::new().unwrap();
    let disk = Arc::new(SmallDisk(AtomicU64::new(100_000)));
    let options = options(folder.path()).with_disk(disk.clone());
    let store = Store::open(options.clone()).await.unwrap();
    let sent = messages(&[batch(1, 100)]);
    let mut stored = Vec::new();
    for number in 0..20 {
        match put(&store, &number.to_string(), &sent, PutOptions::DISK).await {
            Ok(_) => stored.push(number.to_string()),
            Err(error) => assert_eq!(error.code(), Code::DiskFull, "{error}"),
        }
    }
    assert!((1..20).contains(&stored.len()), "{stored:?}");
    assert_eq!(store.stats().payloads, stored.len() as u64);
    assert_eq!(files(folder.path(), "arrow").len(), stored.len());
    assert_eq!(std::fs::read_dir(folder.path().join("batches/_tmp")).unwrap().count(), 0);

    disk.0.store(1 << 30, Ordering::SeqCst);
    put(&store, "later", &sent, PutOptions::DISK).await.unwrap();
    disk.0.store((1 << 30) + 1, Ordering::SeqCst);
    // Room for the file, none for its name.
    let length = std::fs::metadata(&files(folder.path(), "arrow")[0]).unwrap().len();
    disk.0.store(length + 1, Ordering::SeqCst);
    let error = put(&store, stored_twin(&stored), &sent, PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::DiskFull, "{error}");
    assert_eq!(store.stats().payloads, stored.len() as u64 + 1);
    store.close().await;
    disk.0.store(1 << 30, Ordering::SeqCst);
    let store = Store::open(options).await.unwrap();
    assert_eq!(store.stats().payloads, stored.len() as u64 + 1);
    assert_eq!(store.stats().quarantined, 0);
    assert_eq!(get(&store, "later").await.unwrap(), sent);
}

/// A name as long as those stored, so that its file is too.
fn stored_twin(stored: &[String]) -> &'static str {
    assert!(stored.iter().all(|name| name != "x"));
    "x"
}

#[tokio::test]
async fn large_schemas_count_even_when_their_payloads_are_on_disk() {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema};

    let folder = TempDir::new().unwrap();
    let budget = Budget::new(1_000_000);
    let options = options(folder.path()).with_budget(Arc::clone(&budget));
    let store = Store::open(options).await.unwrap();
    let mut refused = 0;
    for number in 0..20 {
        let long = format!("{number}{}", "x".repeat(100_000));
        let schema = Arc::new(Schema::new(vec![Field::new(long, DataType::Int8, true)]));
        let sent = sheaf_flight::ipc::encode_batches(schema, &[]).unwrap();
        match put(&store, &number.to_string(), &sent, PutOptions::DISK).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code(), Code::MemoryFull);
                refused += 1;
            }
        }
        assert!(budget.used() <= 1_000_000);
    }
    assert!((5..15).contains(&refused), "{refused}");
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    for name in &names {
        match store.delete(&name.parse().unwrap()).await {
            Ok(()) => {}
            Err(error) => assert_eq!(error.code(), Code::NotFound),
        }
    }
    assert_eq!((budget.used(), files(folder.path(), "arrow").len()), (0, 0));
}

/// Breaks while it is told to.
struct BrokenDisk(AtomicBool);

impl Disk for BrokenDisk {
    fn write(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        if self.0.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        io::Write::write_all(&mut file, bytes)
    }
}

#[tokio::test]
async fn a_disk_that_fails_while_room_is_made_refuses_the_put_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let disk = Arc::new(BrokenDisk(AtomicBool::new(false)));
    let options = options(folder.path()).with_budget(Budget::new(300_000)).with_disk(disk.clone());
    let store = Store::open(options).await.unwrap();
    disk.0.store(true, Ordering::SeqCst);
    let sent = messages(&[batch(1, 2_000)]);
    let mut stored = Vec::new();
    for number in 0..20 {
        let name = number.to_string();
        match put(&store, &name, &sent, PutOptions::MEMORY).await {
            Ok(_) => stored.push(name),
            Err(error) => assert_eq!(error.code(), Code::Io, "{error}"),
        }
    }
    assert!((1..20).contains(&stored.len()), "{stored:?}");
    for name in &stored {
        assert!(same(&get(&store, name).await.unwrap(), &sent), "{name}");
    }
    assert_eq!(store.stats().payloads, stored.len() as u64);
    assert_eq!(files(folder.path(), "arrow").len(), 0);

    disk.0.store(false, Ordering::SeqCst);
    put(&store, "later", &sent, PutOptions::MEMORY).await.unwrap();
    for name in stored.iter().map(String::as_str).chain(["later"]) {
        assert!(same(&get(&store, name).await.unwrap(), &sent), "{name}");
    }
}

#[tokio::test]
async fn pages_that_cannot_be_read_refuse_the_read_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let store =
        Store::open(options(folder.path()).with_budget(Budget::new(1 << 20))).await.unwrap();
    let sent: Vec<_> = (0..40).map(|number| batch(number, 10_000)).collect();
    let sent = messages(&sent);
    for name in ["x", "y"] {
        put(&store, name, &sent, PutOptions::DISK).await.unwrap();
        // From its file, which is checked.
        assert!(same(&get(&store, name).await.unwrap(), &sent));
    }
    // What a disk does that cannot be read any more: the pages are not there
    // when they are touched, which ends a process that touches them.
    let file = files(folder.path(), "arrow").into_iter().find(|path| path.ends_with("x.arrow"));
    let reading = store.read(&id("x"), &ReadOptions::default()).await.unwrap();
    let file = File::options().write(true).open(file.unwrap()).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length / 2).unwrap();
    let error = reading.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.code(), Code::Io, "{error}");
    assert!(error.message().contains("cannot be read"), "{error}");
    let columns = ReadOptions { limit: Some(u64::MAX), ..ReadOptions::default() };
    // Mapped anew it is seen to be cut off.
    store.read(&id("x"), &columns).await.map(|_| ()).unwrap_err();
    assert!(same(&get(&store, "y").await.unwrap(), &sent));
}

/// Whether they are the same on the wire, however their bodies are cut.
fn same(got: &[Message], sent: &[Message]) -> bool {
    let parts = |message: &Message| (message.header.clone(), message.contiguous_body());
    got.iter().map(parts).eq(sent.iter().map(parts))
}
