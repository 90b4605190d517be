//! How long payloads are kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_flight::Error;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, ManualClock, Retryable as _};
use sheaf_store::{Options, PayloadInfo, PayloadOwner, PutOptions, Standing, Store};
use sheaf_testkit::wait_until_async;

use crate::support::{batch, clock, get, id, messages, stream_of};

const HOUR: Duration = Duration::from_secs(3_600);
const LONG: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Owner {
    standings: Mutex<HashMap<BatchId, Standing>>,
    down: Mutex<bool>,
    asked: Mutex<u32>,
}

#[async_trait]
impl PayloadOwner for Owner {
    async fn standings(&self, ids: &[BatchId]) -> Result<Vec<Standing>, Error> {
        *self.asked.lock().unwrap() += 1;
        if *self.down.lock().unwrap() {
            return Err(Error::new(Code::Unavailable, "down"));
        }
        let known = self.standings.lock().unwrap();
        Ok(ids.iter().map(|id| known.get(id).copied().unwrap_or(Standing::Unregistered)).collect())
    }

    async fn register(&self, payload: &PayloadInfo) -> Result<(), Error> {
        if *self.down.lock().unwrap() {
            return Err(Error::new(Code::Unavailable, "down"));
        }
        self.standings.lock().unwrap().insert(payload.id.clone(), Standing::Live);
        Ok(())
    }
}

impl Owner {
    fn set(&self, name: &str, standing: Standing) {
        self.standings.lock().unwrap().insert(id(name), standing);
    }
}

async fn open(delete_on_completion: bool) -> (Store, Arc<Owner>, Arc<ManualClock>) {
    let (clock, owner) = (clock(), Arc::new(Owner::default()));
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

async fn advance(clock: &ManualClock, by: Duration) {
    // The task must be asleep to notice; it is, or soon will be.
    wait_until_async(LONG, "the task to sleep", || async { clock.sleepers() > 0 }).await.unwrap();
    clock.advance(by);
}

async fn gone(store: &Store, name: &str) {
    wait_until_async(LONG, name, || async { store.info(&id(name)).is_err() }).await.unwrap();
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
