//! Putting, reading, listing, deleting.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use sheaf_flight::ipc::{Bounds, decode_stream};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_store::{Durability, Error, Filter, Options, PutOptions, ReadOptions, Store};
use sheaf_testkit::TempDir;

use crate::support::{batch, clock, files, get, id, messages, options, put, stream_of};

async fn in_memory() -> Store {
    Store::open(Options::new(SystemClock::shared())).await.unwrap()
}

#[tokio::test]
async fn what_is_put_comes_back_as_it_was_and_survives_a_restart() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let mut sent = messages(&[batch(1, 100), batch(2, 0), batch(3, 7)]);
    sent[1].app_metadata = "mine".into();
    let nothing = messages(&[batch(1, 5)])[..1].to_vec();
    let receipt = put(&store, "a:b.c", &sent, PutOptions::DISK).await.unwrap();
    put(&store, "memory", &sent, PutOptions::MEMORY).await.unwrap();
    put(&store, "no-batches", &nothing, PutOptions::DISK).await.unwrap();
    assert_eq!((receipt.rows, receipt.created), (107, true));
    assert_eq!(receipt.bytes, sent.iter().map(|m| m.len() as u64).sum::<u64>() - 4);
    store.pin(&id("a:b.c")).await.unwrap();
    assert_eq!(get(&store, "a:b.c").await.unwrap(), sent);
    let before = store.info(&id("a:b.c")).unwrap();
    store.close().await;

    let store = Store::open(options(folder.path())).await.unwrap();
    assert_eq!(get(&store, "a:b.c").await.unwrap(), sent);
    assert_eq!(get(&store, "no-batches").await.unwrap(), nothing);
    assert_eq!(get(&store, "memory").await.unwrap_err().code(), Code::NotFound);
    let after = store.info(&id("a:b.c")).unwrap();
    assert_eq!(sheaf_store::PayloadInfo { used_at: before.used_at, ..after }, before);
    let stats = store.stats();
    assert_eq!((stats.payloads, stats.pinned, stats.memory_bytes), (2, 1, 0));
    assert_eq!(store.delete(&id("a:b.c")).await.unwrap_err().code(), Code::FailedPrecondition);
    store.unpin(&id("a:b.c")).await.unwrap();
    store.delete(&id("a:b.c")).await.unwrap();
    store.close().await;
    assert_eq!(files(folder.path(), "arrow").len(), 1);
    assert_eq!(files(folder.path(), "pin").len(), 0);
}

#[tokio::test]
async fn the_same_content_is_the_same_payload_and_other_content_is_refused() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let (one, two) = (messages(&[batch(1, 10)]), messages(&[batch(2, 10)]));
    let first = put(&store, "x", &one, PutOptions::MEMORY).await.unwrap();
    let again = put(&store, "x", &one, PutOptions::MEMORY).await.unwrap();
    assert_eq!((first.created, again.created), (true, false));
    assert_eq!(first.checksum, again.checksum);
    let refused = put(&store, "x", &two, PutOptions::MEMORY).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.to_string().contains(&first.checksum), "{refused}");
    // A put that asks for more durability is not acknowledged with less.
    put(&store, "x", &one, PutOptions::DISK).await.unwrap();
    assert_eq!(store.info(&id("x")).unwrap().durability, Durability::Disk);
    assert_eq!(files(folder.path(), "arrow").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_puts_at_once_under_one_name_one_creates_it() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let (one, two) = (messages(&[batch(1, 10)]), messages(&[batch(2, 10)]));
    let puts = (0..32).map(|number| {
        let (store, mine) = (store.clone(), if number % 2 == 0 { &one } else { &two });
        let stream = stream_of(mine);
        tokio::spawn(async move { store.put(Some(id("x")), stream, PutOptions::DISK).await })
    });
    let results = futures::future::join_all(puts).await;
    let (mut created, mut repeated, mut refused) = (0, 0, 0);
    for result in results {
        match result.unwrap() {
            Ok(receipt) if receipt.created => created += 1,
            Ok(_) => repeated += 1,
            Err(Error::AlreadyExists { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((created, repeated, refused), (1, 15, 16));
}

#[tokio::test]
async fn a_stream_that_breaks_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let sent = messages(&[batch(1, 10)]);
    let broken = stream::iter(vec![
        Ok(sent[0].clone()),
        Ok(sent[1].clone()),
        Err(sheaf_flight::Error::new(Code::Unavailable, "gone")),
    ]);
    let error = store.put(None, broken.boxed(), PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    let mut short = sent.clone();
    short[2].body = vec![];
    let error = put(&store, "x", &short, PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::MalformedData);
    let error = put(&store, "x", &[], PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::MalformedData);
    assert_eq!(
        store.stats(),
        sheaf_store::Stats {
            memory_limit_bytes: store.stats().memory_limit_bytes,
            ..sheaf_store::Stats::default()
        }
    );
    assert_eq!(files(folder.path(), "arrow").len(), 0);
}

#[tokio::test]
async fn columns_and_rows_are_cut_out() {
    let store = in_memory().await;
    let batches = [batch(1, 10), batch(2, 10), batch(3, 10)];
    put(&store, "x", &messages(&batches), PutOptions::MEMORY).await.unwrap();
    let read = async |options: ReadOptions| {
        let stream = store.read(&id("x"), &options).await?;
        let (schema, batches) = decode_stream(stream, Bounds::default()).await?;
        Ok::<_, Error>((schema, batches.try_collect::<Vec<_>>().await?))
    };
    let columns = Some(vec!["dictionary".to_owned(), "number".to_owned()]);
    let part = ReadOptions { columns, offset: 8, limit: Some(5), ..ReadOptions::default() };
    let (schema, got) = read(part).await.unwrap();
    assert_eq!(schema.metadata()["made by"], "a test");
    let wanted = [
        batches[0].project(&[3, 0]).unwrap().slice(8, 2),
        batches[1].project(&[3, 0]).unwrap().slice(0, 3),
    ];
    assert_eq!(got, wanted);
    let none = ReadOptions { limit: Some(0), ..ReadOptions::default() };
    assert!(read(none).await.unwrap().1.is_empty());
    let past = ReadOptions { offset: 31, ..ReadOptions::default() };
    assert!(read(past).await.unwrap().1.is_empty());
    let unknown = ReadOptions { columns: Some(vec!["zzz".to_owned()]), ..ReadOptions::default() };
    let error = read(unknown).await.unwrap_err();
    assert!(error.to_string().contains("\"zzz\""), "{error}");
    let both = ReadOptions { from_message: 1, offset: 1, ..ReadOptions::default() };
    assert_eq!(read(both).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let store = in_memory().await;
    let batches = [batch(1, 10), batch(2, 10), batch(3, 10)];
    let sent = messages(&batches);
    put(&store, "x", &sent, PutOptions::MEMORY).await.unwrap();
    for from_message in 0..sent.len() as u64 {
        let options = ReadOptions { from_message, ..ReadOptions::default() };
        let stream = store.read(&id("x"), &options).await.unwrap();
        let (_, rest) = decode_stream(stream, Bounds::default()).await.unwrap();
        let rest: Vec<_> = rest.try_collect().await.unwrap();
        // Dictionaries come again whatever was received, batches do not.
        assert_eq!(rest, batches[batches.len() - rest.len()..], "from {from_message}");
    }
}

#[tokio::test]
async fn lists_are_filtered_and_continued() {
    let clock = clock();
    let store = Store::open(Options::new(clock.clone())).await.unwrap();
    let sent = messages(&[batch(1, 1)]);
    for number in 0..25 {
        let name = format!("{}{number:02}", if number < 20 { "a" } else { "b" });
        put(&store, &name, &sent, PutOptions::MEMORY).await.unwrap();
        clock.advance(std::time::Duration::from_millis(10));
    }
    store.pin(&id("a05")).await.unwrap();
    let names = async |filter: Filter, limit| {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.list(&filter, cursor.as_ref(), limit).await.unwrap();
            assert!(page.payloads.len() <= limit);
            names.extend(page.payloads.into_iter().map(|info| info.id.to_string()));
            cursor = page.next;
            if cursor.is_none() {
                return names;
            }
        }
    };
    let prefix = |prefix: &str| Filter { prefix: prefix.to_owned(), ..Filter::default() };
    assert_eq!(names(Filter::default(), 7).await.len(), 25);
    assert_eq!(names(prefix("b"), 2).await, ["b20", "b21", "b22", "b23", "b24"]);
    assert_eq!(names(prefix("c"), 2).await, Vec::<String>::new());
    assert_eq!(names(Filter { pinned: Some(true), ..prefix("a") }, 3).await, ["a05"]);
    let young = Filter { max_age_ms: Some(20), ..Filter::default() };
    assert_eq!(names(young, 100).await, ["b23", "b24"]);
    let status = Some(sheaf_store::Status::Live);
    assert!(names(Filter { status, ..Filter::default() }, 100).await.is_empty());
    assert_eq!(store.list(&prefix(""), None, 0).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn one_directory_has_one_store_and_newer_ones_are_left_alone() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let error = Store::open(options(folder.path())).await.unwrap_err();
    assert_eq!(error.code(), Code::DirectoryLocked);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    store.close().await;
    Store::open(options(folder.path())).await.unwrap().close().await;
    std::fs::write(folder.path().join("FORMAT"), "7\n").unwrap();
    let error = Store::open(options(folder.path())).await.unwrap_err();
    assert_eq!(error.code(), Code::FormatNewer);
    assert!(error.to_string().contains("format 7, this build reads up to 1"), "{error}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = Store::open(options(&file)).await.unwrap_err();
    assert_eq!(error.code(), Code::Io);
    assert!(error.to_string().contains("make it writable"), "{error}");
    assert_eq!(put(&store, "x", &[], PutOptions::DISK).await.unwrap_err().code(), Code::Draining);
}

#[tokio::test]
async fn a_store_without_a_directory_does_not_promise_to_keep() {
    let store = in_memory().await;
    let error = put(&store, "x", &[], PutOptions::DISK).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}
