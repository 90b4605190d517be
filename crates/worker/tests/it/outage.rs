//! A coordinator that cannot be reached for a while, and leases that are lost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use sheaf_coordinator::{
    Answer, BatchSpec, Claim, ClaimRequest, Control, ControlReply, Coordinator, Error, Event,
    Extended, Extension, Query, Registered, SettleReply, SettleRequest, State, WatchFilter,
};
use sheaf_retry::{Code, RetryPolicy};
use sheaf_worker::{Config, Job, PassThrough};
use tokio::sync::{Semaphore, watch};

use crate::support::{DEADLINE, Each, Scene, eager, quick};

/// The network between a pool and its coordinator, which a test can cut.
struct Cable {
    end: Arc<dyn Coordinator>,
    /// Calls fail, those under way too.
    cut: watch::Sender<bool>,
    /// Replies to this call are dropped, but the calls arrive.
    deaf: Mutex<&'static str>,
    /// How many were dropped.
    dropped: AtomicUsize,
}

impl Cable {
    fn new(end: Arc<dyn Coordinator>) -> Arc<Self> {
        Arc::new(Cable {
            end,
            cut: watch::Sender::new(false),
            deaf: Mutex::default(),
            dropped: AtomicUsize::new(0),
        })
    }

    async fn drops(&self, name: &'static str, replies: usize) {
        *self.deaf.lock().unwrap() = name;
        self.dropped.store(0, Ordering::SeqCst);
        sheaf_testkit::wait_until_async(DEADLINE, "dropped replies", || async {
            self.dropped.load(Ordering::SeqCst) >= replies
        })
        .await
        .unwrap();
    }

    async fn carry<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut cut = self.cut.subscribe();
        let answer = tokio::select! {
            biased;
            _ = cut.wait_for(|cut| *cut) => return Err(gone()),
            answer = call => answer,
        };
        if *self.deaf.lock().unwrap() != name {
            return answer;
        }
        self.dropped.fetch_add(1, Ordering::SeqCst);
        Err(gone())
    }
}

fn gone() -> Error {
    Error::Unavailable { problem: "is cut off".to_owned(), code: Code::Unavailable }
}

#[async_trait]
impl Coordinator for Cable {
    async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        self.end.register(specs).await
    }

    async fn claim(&self, request: ClaimRequest) -> Result<Claim, Error> {
        self.carry("claim", self.end.claim(request)).await
    }

    async fn settle(&self, request: SettleRequest) -> Result<SettleReply, Error> {
        self.carry("settle", self.end.settle(request)).await
    }

    async fn extend(&self, leases: Vec<Extension>) -> Result<Vec<Extended>, Error> {
        self.carry("extend", self.end.extend(leases)).await
    }

    async fn query(&self, query: Query) -> Result<Answer, Error> {
        self.end.query(query).await
    }

    async fn control(&self, control: Control) -> Result<ControlReply, Error> {
        self.end.control(control).await
    }

    async fn watch(&self, filter: WatchFilter) -> Result<BoxStream<'static, Event>, Error> {
        self.end.watch(filter).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_kept_and_sent_again_when_replies_are_lost() {
    let scene = Scene::new().await;
    let cable = Cable::new(Arc::clone(&scene.coordinator));
    let gate: &Semaphore = Box::leak(Box::new(Semaphore::new(0)));
    for index in 0..20_i64 {
        scene.add(&format!("b{index}"), &[index], RetryPolicy::none()).await;
    }
    let worker = scene.worker_with(
        Config::new("pool"),
        Each(move |job: Job| async move {
            gate.acquire().await.unwrap().forget();
            job.into_rows().await
        }),
        Some(scene.sink().await),
        Arc::clone(&cable) as _,
    );
    scene.counts(State::Processing, 6).await;
    gate.add_permits(100);
    // Proofs of leases first, then results; each more than once.
    cable.drops("extend", 7).await;
    cable.drops("settle", 3).await;
    assert_ne!(scene.count(State::Completed).await, 0, "settles arrive, nobody hears of it");
    cable.drops("nothing", 0).await;
    // Not one attempt was wasted: none of these batches may be tried again.
    scene.counts(State::Completed, 20).await;
    let summary = worker.shutdown().await;
    assert_eq!((summary.completed, summary.failed), (20, 0));
    assert_eq!(scene.results().await, (0..20).collect::<Vec<_>>(), "every row once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_cut_off_stops_its_work_and_another_does_it_once() {
    let scene = Scene::new().await;
    let cable = Cable::new(Arc::clone(&scene.coordinator));
    scene.add("b", &[7], eager(3)).await;
    let (began, dropped) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (tell_began, tell_dropped) = (began.clone(), dropped.clone());
    let first = scene.worker_with(
        quick("first"),
        Each(move |job: Job| {
            let (began, dropped) = (tell_began.clone(), tell_dropped.clone());
            async move {
                let _tell = Tell(dropped);
                began.add_permits(1);
                std::future::pending::<()>().await;
                job.into_rows().await
            }
        }),
        Some(scene.sink().await),
        Arc::clone(&cable) as _,
    );
    tokio::time::timeout(DEADLINE, began.acquire()).await.unwrap().unwrap().forget();
    // The word that work has begun travels behind the work itself.
    let charged = sheaf_testkit::wait_for_async(DEADLINE, "the attempt to be charged", || async {
        (scene.batch("b").await.attempts == 1).then_some(())
    });
    charged.await.unwrap();
    cable.cut.send_replace(true);
    let coordinator = scene.coordinator.clone();
    let second =
        scene.worker_with(quick("second"), PassThrough, Some(scene.sink().await), coordinator);
    let batch = scene.reaches("b", State::Completed).await;
    assert_eq!(batch.attempts, 2);
    // The first one stops by its own clock: nobody can tell it.
    tokio::time::timeout(DEADLINE, dropped.acquire()).await.unwrap().unwrap().forget();
    cable.cut.send_replace(false);
    let summary = first.shutdown().await;
    assert_eq!((summary.completed, summary.lost), (0, 1));
    second.shutdown().await;
    assert_eq!(scene.results().await, vec![7]);
}

struct Tell(Arc<Semaphore>);

impl Drop for Tell {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}
