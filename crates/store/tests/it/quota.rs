//! What one token may have stored.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use sheaf_flight::{Message, MessageStream};
use sheaf_proto::storage::v1::PayloadRecord;
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::{Error, Options, PutBy, PutOptions, PutReceipt, Store};
use sheaf_testkit::{TempDir, wait_until_async};

use crate::support::{LONG, advance, asleep, batch, clock, get, id, messages, options, stream_of};

fn by(name: &str, quota: u64) -> Option<PutBy> {
    Some(PutBy { name: name.into(), quota_bytes: Some(quota) })
}

fn size(messages: &[Message]) -> u64 {
    messages.iter().map(|message| message.len() as u64).sum()
}

/// What counts: every byte, and something for each message.
fn counted(messages: &[Message]) -> u64 {
    size(messages) + 64 * messages.len() as u64
}

async fn put(
    store: &Store,
    name: &str,
    sent: MessageStream,
    by: Option<PutBy>,
) -> Result<PutReceipt, Error> {
    store.put_by(Some(id(name)), sent, PutOptions::DISK, by).await
}

#[tokio::test]
async fn a_quota_is_kept_over_a_restart_and_freed_by_a_delete() {
    let folder = TempDir::new().unwrap();
    let sent = messages(&[batch(1, 50)]);
    let (one, quota) = (counted(&sent), counted(&sent) * 2 + 10);
    let store = Store::open(options(folder.path())).await.unwrap();
    for name in ["a", "b"] {
        let receipt = put(&store, name, stream_of(&sent), by("ci", quota)).await.unwrap();
        assert_eq!(receipt.bytes, size(&sent));
    }
    let spilled = PutOptions::MEMORY;
    store.put_by(Some(id("c")), stream_of(&sent), spilled, by("other", one)).await.unwrap();
    put(&store, "nobodys", stream_of(&sent), None).await.unwrap();
    assert_eq!((store.bytes_put_by("ci"), store.bytes_put_by("other")), (one * 2, one));
    store.close().await;
    drop(store);

    let store = Store::open(options(folder.path())).await.unwrap();
    assert_eq!(store.info(&id("a")).unwrap().put_by.as_deref(), Some("ci"));
    assert_eq!(store.info(&id("nobodys")).unwrap().put_by, None);
    // What was in memory only went with the process.
    assert_eq!((store.bytes_put_by("ci"), store.bytes_put_by("other")), (one * 2, 0));
    let error = put(&store, "c", stream_of(&sent), by("ci", quota)).await.unwrap_err();
    assert_eq!(error.code(), Code::QuotaFull, "{error}");
    for part in ["\"ci\"", &format!("{} of {quota} bytes", one * 2), "quota="] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    assert_eq!(store.bytes_put_by("ci"), one * 2, "what was refused is given back");
    assert!(store.info(&id("c")).is_err());
    store.delete(&id("a")).await.unwrap();
    assert_eq!(store.bytes_put_by("ci"), one);
    put(&store, "c", stream_of(&sent), by("ci", quota)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_at_the_same_time_do_not_exceed_it_together() {
    let store = Store::open(Options::new(clock())).await.unwrap();
    let sent: Vec<Vec<Message>> = (0..8).map(|seed| messages(&[batch(seed, 200)])).collect();
    let one = sent.iter().map(|sent| counted(sent)).max().unwrap();
    let quota = one * 3 + one / 2;
    // Each waits before its end until all have come so far.
    let barrier = Arc::new(tokio::sync::Barrier::new(8));
    let puts = sent.iter().enumerate().map(|(number, sent)| {
        let (store, barrier, mut sent) = (store.clone(), Arc::clone(&barrier), sent.clone());
        let last = sent.pop().unwrap();
        let first = stream::iter(sent.into_iter().map(Ok));
        let last = stream::once(async move {
            barrier.wait().await;
            Ok(last)
        });
        let stream = first.chain(last).boxed();
        tokio::spawn(async move {
            let name = Some(id(&format!("p{number}")));
            store.put_by(name, stream, PutOptions::MEMORY, by("ci", quota)).await
        })
    });
    let ended = futures::future::join_all(puts.collect::<Vec<_>>()).await;
    let refused: Vec<Error> = ended.into_iter().filter_map(|end| end.unwrap().err()).collect();
    let stored = store.stats();
    assert!(refused.iter().all(|error| error.code() == Code::QuotaFull), "{refused:?}");
    assert_eq!(stored.payloads, 3, "three fit: {refused:?}");
    let counted = stored.bytes + 64 * 3 * sent[0].len() as u64;
    assert_eq!(store.bytes_put_by("ci"), counted);
    assert!(counted <= quota);
}

#[tokio::test]
async fn a_put_that_is_repeated_is_not_refused_for_want_of_room() {
    let store = Store::open(Options::new(clock())).await.unwrap();
    let memory = PutOptions::MEMORY;
    let sent = messages(&[batch(1, 50)]);
    let quota = counted(&sent);
    let again = || store.put_by(Some(id("a")), stream_of(&sent), memory, by("ci", quota));
    assert!(again().await.unwrap().created);
    assert!(!again().await.unwrap().created);
    assert_eq!(store.bytes_put_by("ci"), quota);
    // Other content under the name is told as that; more of it as too much.
    let other = messages(&[batch(2, 50)]);
    let error = store.put_by(Some(id("a")), stream_of(&other), memory, by("ci", quota)).await;
    assert_eq!(error.unwrap_err().code(), Code::AlreadyExists);
    let longer = messages(&[batch(1, 50), batch(1, 50)]);
    let error = store.put_by(Some(id("a")), stream_of(&longer), memory, by("ci", quota)).await;
    assert_eq!(error.unwrap_err().code(), Code::QuotaFull);
    // Gone before the end of the stream: it is new then, and counts.
    store.put_by(Some(id("b")), stream_of(&sent), memory, None).await.unwrap();
    let (schema, rest) = (sent[0].clone(), sent[1..].to_vec());
    let deleting = store.clone();
    let rest = stream::once(async move {
        deleting.delete(&id("b")).await.unwrap();
        stream_of(&rest)
    });
    let stream = stream_of(&[schema]).chain(rest.flatten()).boxed();
    let error = store.put_by(Some(id("b")), stream, memory, by("ci", quota)).await;
    assert_eq!(error.unwrap_err().code(), Code::QuotaFull);
    assert_eq!(store.bytes_put_by("ci"), quota);
}

#[tokio::test]
async fn what_expires_or_breaks_off_is_given_back() {
    let clock = clock();
    let store = Store::open(Options::new(clock.clone())).await.unwrap();
    let sent = messages(&[batch(1, 50)]);
    let broken = Err(sheaf_flight::Error::new(Code::Cancelled, "it breaks"));
    let parts = sent.iter().cloned().map(Ok).chain([broken]).collect::<Vec<_>>();
    let error = store
        .put_by(Some(id("x")), stream::iter(parts).boxed(), PutOptions::MEMORY, by("ci", 1 << 20))
        .await;
    assert_eq!(error.unwrap_err().code(), Code::Cancelled);
    assert_eq!(store.bytes_put_by("ci"), 0);
    // One on its way counts for as long as it is.
    let slow = stream_of(&sent).chain(stream::pending()).boxed();
    let putting = store.clone();
    let put = tokio::spawn(async move {
        putting.put_by(Some(id("y")), slow, PutOptions::MEMORY, by("ci", 1 << 20)).await
    });
    wait_until_async(LONG, "it to come", || async { store.bytes_put_by("ci") == counted(&sent) })
        .await
        .unwrap();
    put.abort();
    wait_until_async(LONG, "it to go", || async { store.bytes_put_by("ci") == 0 }).await.unwrap();

    store
        .put_by(Some(id("z")), stream_of(&sent), PutOptions::MEMORY, by("ci", 1 << 20))
        .await
        .unwrap();
    // A reader does not keep it counted.
    let reader = store.read(&id("z"), &Default::default()).await.unwrap();
    asleep(&clock).await;
    advance(&clock, Duration::from_secs(7_200)).await;
    wait_until_async(LONG, "it to expire", || async { store.bytes_put_by("ci") == 0 })
        .await
        .unwrap();
    assert!(get(&store, "z").await.is_err());
    assert_eq!(reader.count().await, sent.len());
}

/// Records of before there were quotas have no owner.
#[test]
fn a_record_without_an_owner_is_the_same_as_before() {
    use prost::Message as _;
    let record = PayloadRecord { id: "a".to_owned(), ..PayloadRecord::default() };
    // Field 2 alone: id.
    assert_eq!(record.encode_to_vec(), [0x12, 1, b'a']);
    let named = PayloadRecord { put_by: "ci".to_owned(), ..record };
    // And field 13.
    assert_eq!(named.encode_to_vec(), [0x12, 1, b'a', 0x6a, 2, b'c', b'i']);
}

/// Metadata of the application, and messages of nothing else, count too.
#[tokio::test]
async fn nothing_that_is_stored_is_free() {
    let folder = TempDir::new().unwrap();
    let store = Store::open(options(folder.path())).await.unwrap();
    let mut long = messages(&[batch(1, 1)]);
    long[1].app_metadata = vec![7; 100_000].into();
    let empty =
        |_| Message { app_metadata: vec![7].into(), ..Message::new(Bytes::new(), Bytes::new()) };
    let many: Vec<_> = messages(&[batch(1, 1)]).into_iter().chain((0..2_000).map(empty)).collect();
    for (name, sent) in [("long", long), ("many", many)] {
        let count = counted(&sent);
        let refused = put(&store, name, stream_of(&sent), by("ci", count - 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::QuotaFull, "{name}: {refused}");
        put(&store, name, stream_of(&sent), by(name, count)).await.unwrap();
        assert_eq!(store.bytes_put_by(name), count);
    }
    store.close().await;
    drop(store);
    let store = Store::open(options(folder.path())).await.unwrap();
    assert!(store.bytes_put_by("long") > 100_000 && store.bytes_put_by("many") > 128_000);
}
