//! How long payloads are kept.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, ManualClock, Retryable as _};
use sheaf_store::{
    Asked, Filter, Mark, Options, PayloadInfo, PayloadOwner, Place, PutOptions, Standing, Status,
    Store,
};
use sheaf_testkit::wait_until_async;

use crate::support::{LONG, advance, batch, clock, get, gone, id, messages, stream_of};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Default)]
struct Owner {
    standings: Mutex<HashMap<BatchId, Standing>>,
    down: Mutex<bool>,
    asked: Mutex<u32>,
    /// Of what it knows; marks are of 1 or more.
    history: Mutex<u64>,
}

#[async_trait]
impl PayloadOwner for Owner {
    async fn standings(&self, payloads: &[Asked]) -> Result<Vec<Standing>, Error> {
        *self.asked.lock().unwrap() += 1;
        if *self.down.lock().unwrap() {
            return Err(Error::new(Code::Unavailable, "down"));
        }
        let (known, history) = (self.standings.lock().unwrap(), *self.history.lock().unwrap());
        let standing = |asked: &Asked| match (known.get(&asked.id), asked.place) {
            (Some(standing), _) => *standing,
            (None, Some(place)) if place.run != history => Standing::Lost,
            (None, _) => Standing::Unregistered,
        };
        Ok(payloads.iter().map(standing).collect())
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<Option<Mark>, Error> {
        if *self.down.lock().unwrap() {
            return Err(Error::new(Code::Unavailable, "down"));
        }
        self.standings.lock().unwrap().insert(payload.id.clone(), Standing::Live);
        let history = *self.history.lock().unwrap();
        Ok(Some(mark_of(history, payload.id.as_str())))
    }
}

fn mark_of(run: u64, spec: &str) -> Mark {
    Mark { place: Place { run, sequence: 1 }, spec: spec.to_owned().into(), waits: false }
}

impl Owner {
    fn set(&self, name: &str, standing: Standing) {
        self.standings.lock().unwrap().insert(id(name), standing);
    }
}

async fn open(delete_on_completion: bool) -> (Store, Arc<Owner>, Arc<ManualClock>) {
    let owner = Arc::new(Owner { history: Mutex::new(1), ..Owner::default() });
    let clock = clock();
    let mut options = Options::new(clock.clone()).with_owner(owner.clone());
    options.delete_on_completion = delete_on_completion;
    let store = Store::open(options).await.unwrap();
    (store, owner, clock)
}

async fn store_some(store: &Store, names: &[&str]) {
    for name in names {
        let sent = stream_of(&messages(&[batch(1, 5)]));
        store.put(Some(id(name)), sent, PutOptions::MEMORY).await.unwrap();
    }
}

#[tokio::test]
async fn time_to_live_runs_from_the_last_use_and_not_for_what_is_needed() {
    let (store, owner, clock) = open(false).await;
    store_some(&store, &["old", "used", "live", "terminal", "pinned"]).await;
    owner.set("live", Standing::Live);
    owner.set("terminal", Standing::Terminal { since: HOUR / 4 });
    store.pin(&id("pinned")).await.unwrap();
    advance(&clock, HOUR / 2).await;
    get(&store, "used").await.unwrap();
    advance(&clock, HOUR / 2).await;
    gone(&store, "old").await;
    for kept in ["used", "live", "terminal", "pinned"] {
        store.info(&id(kept)).unwrap();
    }
    owner.set("terminal", Standing::Terminal { since: HOUR });
    advance(&clock, HOUR * 3 / 4).await;
    gone(&store, "terminal").await;
    gone(&store, "used").await;
    for _ in 0..24 {
        advance(&clock, HOUR).await;
    }
    store.info(&id("live")).unwrap();
    store.info(&id("pinned")).unwrap();
    owner.set("live", Standing::Terminal { since: Duration::ZERO });
    store.completed(&[id("live"), id("unknown")]);
    store.unpin(&id("pinned")).await.unwrap();
    owner.set("live", Standing::Terminal { since: HOUR });
    advance(&clock, HOUR).await;
    gone(&store, "live").await;
    gone(&store, "pinned").await;
    store.close().await;
}

#[tokio::test]
async fn what_cannot_be_asked_about_is_kept_until_it_can() {
    let (store, owner, clock) = open(false).await;
    store_some(&store, &["x"]).await;
    *owner.down.lock().unwrap() = true;
    for _ in 0..5 {
        let before = *owner.asked.lock().unwrap();
        advance(&clock, HOUR).await;
        let asked = || async { *owner.asked.lock().unwrap() > before };
        wait_until_async(LONG, "the owner to be asked", asked).await.unwrap();
        store.info(&id("x")).unwrap();
    }
    *owner.down.lock().unwrap() = false;
    advance(&clock, HOUR).await;
    gone(&store, "x").await;
    assert_eq!(store.stats().memory_bytes, 0);
}

#[tokio::test]
async fn completion_can_end_a_payload_at_once() {
    let (store, owner, _clock) = open(true).await;
    store_some(&store, &["failed", "live", "x"]).await;
    owner.set("x", Standing::Completed { since: Duration::ZERO });
    owner.set("live", Standing::Live);
    owner.set("failed", Standing::Terminal { since: Duration::ZERO });
    store.completed(&[id("failed"), id("live")]);
    let asked = || async { *owner.asked.lock().unwrap() > 0 };
    wait_until_async(LONG, "the owner to be asked", asked).await.unwrap();
    // Looked at after the others: what was to happen to them has happened.
    store.completed(&[id("x")]);
    gone(&store, "x").await;
    store.info(&id("live")).unwrap();
    store.info(&id("failed")).unwrap();
}

#[tokio::test]
async fn a_put_registers_in_the_same_call_or_says_that_it_did_not() {
    let (store, owner, _clock) = open(false).await;
    let options = PutOptions { register: true, ..PutOptions::MEMORY };
    let sent = messages(&[batch(1, 5)]);
    *owner.down.lock().unwrap() = true;
    let error = store.put(Some(id("x")), stream_of(&sent), options).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.to_string().contains("stored, but could not be registered"), "{error}");
    *owner.down.lock().unwrap() = false;
    let receipt = store.put(Some(id("x")), stream_of(&sent), options).await.unwrap();
    assert!(!receipt.created);
    assert_eq!(owner.standings.lock().unwrap()[&id("x")], Standing::Live);
}

#[tokio::test]
async fn what_is_needed_or_cannot_be_asked_about_is_not_deleted() {
    let (store, owner, _clock) = open(false).await;
    store_some(&store, &["x"]).await;
    owner.set("x", Standing::Live);
    let error = store.delete(&id("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    *owner.down.lock().unwrap() = true;
    let error = store.delete(&id("x")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    get(&store, "x").await.unwrap();
    *owner.down.lock().unwrap() = false;
    owner.set("x", Standing::Terminal { since: Duration::ZERO });
    store.delete(&id("x")).await.unwrap();
    gone(&store, "x").await;
}

#[tokio::test]
async fn a_payload_whose_batch_is_over_stays_as_long_as_its_ticket_says() {
    let (store, owner, clock) = open(false).await;
    store_some(&store, &["x"]).await;
    owner.set("x", Standing::Terminal { since: Duration::ZERO });
    advance(&clock, HOUR * 3 / 4).await;
    let until = store.renew(&id("x")).unwrap();
    owner.set("x", Standing::Terminal { since: HOUR });
    let before = *owner.asked.lock().unwrap();
    advance(&clock, HOUR / 2).await;
    let asked = || async { *owner.asked.lock().unwrap() > before };
    wait_until_async(LONG, "the owner to be asked", asked).await.unwrap();
    wait_until_async(LONG, "the task to sleep", || async { clock.sleepers() > 0 }).await.unwrap();
    assert!(until > sheaf_retry::Clock::now(clock.as_ref()));
    store.info(&id("x")).unwrap();
    advance(&clock, HOUR / 2).await;
    gone(&store, "x").await;
}

/// Opens the directory with an owner of this history that knows nothing, or none.
async fn open_at(path: &Path, history: Option<u64>) -> (Store, Arc<ManualClock>) {
    let clock = clock();
    let mut options = Options::new(clock.clone()).with_data_dir(path);
    if let Some(history) = history {
        let owner = Owner { history: Mutex::new(history), ..Owner::default() };
        options = options.with_owner(Arc::new(owner));
    }
    (Store::open(options).await.unwrap(), clock)
}

async fn put_as(store: &Store, name: &str, options: PutOptions) {
    let sent = stream_of(&messages(&[batch(1, 5)]));
    store.put(Some(id(name)), sent, options).await.unwrap();
}

/// Lets so much time pass that what is not needed is gone.
async fn pass(store: &Store, clock: &ManualClock) {
    put_as(store, "canary", PutOptions::MEMORY).await;
    for _ in 0..4 {
        advance(clock, HOUR / 2).await;
    }
    gone(store, "canary").await;
}

#[tokio::test]
async fn what_is_registered_outlives_its_coordinator() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (store, _clock) = open_at(path, Some(1)).await;
    for name in ["known", "again"] {
        put_as(&store, name, PutOptions::REGISTERED).await;
    }
    put_as(&store, "unknown", PutOptions::DISK).await;
    assert_eq!(store.stats().registered, 2);
    store.close().await;

    // Without the coordinator.
    let (store, clock) = open_at(path, None).await;
    pass(&store, &clock).await;
    gone(&store, "unknown").await;
    assert_eq!(store.marked_unless(|_| false, None, 9), [id("again"), id("known")]);
    let error = store.delete(&id("known")).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    let marks = store.marks(&[id("known"), id("other")]).await.unwrap();
    assert_eq!(marks, [(id("known"), mark_of(1, "known"))]);
    store.close().await;

    // Beside one that came back empty.
    let (store, clock) = open_at(path, Some(2)).await;
    pass(&store, &clock).await;
    let lost = Filter { status: Some(Status::Lost), ..Filter::default() };
    let page = store.list(&lost, None, 9).await.unwrap();
    assert_eq!(page.payloads.len(), 2);
    // One of them is registered again, in the history that forgot it later.
    let marks = ["again", "other"].map(|name| (id(name), mark_of(3, "anew")));
    store.mark(marks.into()).await;
    assert_eq!(store.marked_unless(|place| place.run == 3, None, 9), [id("known")]);
    store.close().await;

    let (store, clock) = open_at(path, Some(3)).await;
    pass(&store, &clock).await;
    gone(&store, "again").await;
    store.info(&id("known")).unwrap();
    put_as(&store, "again", PutOptions::DISK).await;
    store.close().await;
    let (store, _clock) = open_at(path, None).await;
    assert!(store.is_unmarked(&id("again")), "another payload of that name");
    assert!(!store.is_unmarked(&id("known")));
    store.close().await;
}

#[tokio::test]
async fn a_mark_ends_with_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _clock) = open_at(directory.path(), Some(1)).await;
    for name in ["a", "b"] {
        put_as(&store, name, PutOptions::REGISTERED).await;
    }
    store.completed(&[id("a")]);
    wait_until_async(LONG, "the mark to go", || async { store.is_unmarked(&id("a")) })
        .await
        .unwrap();
    store.close().await;
    let (store, _clock) = open_at(directory.path(), None).await;
    assert_eq!(store.marked_unless(|_| false, None, 9), [id("b")]);
    store.close().await;
}
