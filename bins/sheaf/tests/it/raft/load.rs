//! Work without end on a coordinator, and an account of what it acknowledged.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Coordinator as _, CoordinatorExt as _, Fence, LeaseRef, ListFilter,
    Outcome, Query, Resolution, SettleRequest, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::{SharedClock, SystemClock};
use sheaf_rpc::RpcCoordinator;
use tokio::task::JoinSet;

use crate::remote::patience_for_all;

/// Longer than a test: no lease ends by itself, so every batch is done at the
/// first attempt, or something was lost.
const LEASE: Duration = Duration::from_secs(3_600);
/// Where networks break, and messages are under way for longer than a caller waits: a claim that was
/// given up, and was answered with nothing when it was sent again, may arrive after that and take
/// batches for nobody, until their lease is over.
pub(super) const SHORT_LEASE: Duration = Duration::from_secs(40);
/// Batches of one call.
const GROUP: u64 = 8;
/// Where its batches are; others may use other queues beside it.
const QUEUE: &str = "default";
/// Batches that may wait to be worked on: a test is about what is acknowledged, not about how
/// much a coordinator keeps.
const BACKLOG: u64 = 4_000;
/// Of a producer, between two calls. In a long form of some minutes the batches are then fewer
/// than those that a coordinator remembers when they are completed, which all are counted.
const PACE: Duration = Duration::from_millis(20);
/// Time in which some call is to succeed.
const SLOT: Duration = Duration::from_millis(100);

/// What was acknowledged so far.
#[derive(Default)]
struct Account {
    registered: BTreeSet<BatchId>,
    /// The token of each batch that was given out.
    leases: HashMap<BatchId, Fence>,
    completed: BTreeSet<BatchId>,
    greatest: Option<Fence>,
    /// When something succeeded, in slots since the start.
    slots: BTreeSet<u128>,
    /// Times in which it need not, in slots.
    faults: Vec<Range<u128>>,
}

impl Account {
    /// The share of so many slots in which something succeeded, faults apart.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    fn available(&self, slots: u128) -> f64 {
        let is_faulty = |slot: &u128| self.faults.iter().any(|fault| fault.contains(slot));
        let sound: Vec<u128> = (0..slots).filter(|slot| !is_faulty(slot)).collect();
        let available = sound.iter().filter(|slot| self.slots.contains(slot)).count();
        available as f64 / sound.len().max(1) as f64
    }
}

/// The slot of now, from when the load began.
fn slot(clock: &SharedClock, began: Duration) -> u128 {
    (clock.elapsed() - began).as_millis() / SLOT.as_millis()
}

/// How many batches of loads are completed; there are no others.
pub(crate) async fn completed(client: &RpcCoordinator) -> u64 {
    let stats = client.stats(Some(QUEUE)).await.unwrap();
    let of = |state: State| stats.iter().filter_map(|queue| queue.counts.get(&state)).sum();
    let total: u64 = State::ALL.iter().map(|state| -> u64 { of(*state) }).sum();
    assert_eq!(of(State::Completed), total, "all are completed: {stats:?}");
    total
}

/// Registers, claims and completes until it is told to end.
pub(crate) struct Load {
    account: Arc<Mutex<Account>>,
    is_over: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    lease: Duration,
    clock: SharedClock,
    began: Duration,
    producers: JoinSet<()>,
    workers: JoinSet<()>,
}

impl Load {
    /// So many producers and as many workers, each with a client of its own.
    pub(crate) fn start(pairs: usize, client: impl Fn() -> RpcCoordinator) -> Self {
        Self::start_with(pairs, LEASE, client)
    }

    /// As [`Load::start`], with leases of this length.
    pub(crate) fn start_with(
        pairs: usize,
        lease: Duration,
        client: impl Fn() -> RpcCoordinator,
    ) -> Self {
        let clock = SystemClock::shared();
        let mut load = Load {
            account: Arc::default(),
            is_over: Arc::default(),
            next: Arc::default(),
            lease,
            began: clock.elapsed(),
            clock,
            producers: JoinSet::new(),
            workers: JoinSet::new(),
        };
        for number in 0..pairs {
            let (producer, worker) = (load.hand(client()), load.hand(client()));
            load.producers.spawn(producer.produce());
            load.workers.spawn(worker.work(format!("worker-{number}")));
        }
        load
    }

    fn hand(&self, client: RpcCoordinator) -> Hand {
        Hand {
            client,
            account: Arc::clone(&self.account),
            is_over: Arc::clone(&self.is_over),
            next: Arc::clone(&self.next),
            lease: self.lease,
            clock: self.clock.clone(),
            began: self.began,
        }
    }

    /// How many batches were acknowledged as completed.
    pub(crate) fn completed(&self) -> usize {
        self.account.lock().unwrap().completed.len()
    }

    /// From now on calls may fail, until [`Load::fault_ends`]; there may be a fault in a fault.
    pub(crate) fn fault_begins(&self) {
        let now = slot(&self.clock, self.began);
        self.account.lock().unwrap().faults.push(now..u128::MAX);
    }

    /// From the next slot on calls are to succeed again, unless there is another fault.
    pub(crate) fn fault_ends(&self) {
        let now = slot(&self.clock, self.began);
        let mut account = self.account.lock().unwrap();
        let open = account.faults.iter_mut().rfind(|fault| fault.end == u128::MAX);
        open.expect("a fault that began").end = now + 1;
    }

    /// Ends the load, works off what is left, and holds the coordinator to all that
    /// it acknowledged. Returns how many batches there were, and the share of the
    /// time in which calls succeeded, without that of faults.
    pub(crate) async fn settle(mut self, client: &RpcCoordinator) -> (u64, f64) {
        let slots = slot(&self.clock, self.began);
        let available = self.account.lock().unwrap().available(slots);
        self.is_over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.producers.join_next().await {
            ended.unwrap();
        }
        let all = self.account.lock().unwrap().registered.clone();
        let done = sheaf_testkit::wait_until_async(patience_for_all(), "the rest", || async {
            self.completed() >= all.len()
        });
        if let Err(error) = done.await {
            let stats = client.stats(None).await;
            panic!("{error}: {} of {} are completed: {stats:?}", self.completed(), all.len());
        }
        self.workers.shutdown().await;
        self.check(client, &all).await;
        (all.len() as u64, available)
    }

    async fn check(&self, client: &RpcCoordinator, all: &BTreeSet<BatchId>) {
        assert_eq!(completed(client).await, all.len() as u64);
        let queue = Some(QUEUE.to_owned());
        let mut filter = ListFilter { limit: 1_000, queue, ..ListFilter::default() };
        let mut seen = BTreeSet::new();
        loop {
            let page = client.list(filter.clone()).await.unwrap();
            for batch in page.batches {
                let id = batch.spec.id;
                assert_eq!(batch.state, State::Completed, "{id} was acknowledged as completed");
                let is_first = batch.attempts == 1 || self.lease < LEASE;
                assert!(is_first, "{id} was worked on again");
                seen.insert(id);
            }
            if page.next_cursor.is_empty() {
                break;
            }
            filter.cursor = page.next_cursor;
        }
        assert!(all.is_subset(&seen), "acknowledged and lost: {:?}", all.difference(&seen).next());
        client.query(Query::Stats(None)).await.unwrap();
    }
}

/// One producer or worker.
struct Hand {
    client: RpcCoordinator,
    account: Arc<Mutex<Account>>,
    is_over: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    lease: Duration,
    clock: SharedClock,
    began: Duration,
}

impl Hand {
    fn tell(&self, change: impl FnOnce(&mut Account)) {
        let slot = slot(&self.clock, self.began);
        let mut account = self.account.lock().unwrap();
        account.slots.insert(slot);
        change(&mut account);
    }

    /// How many are registered and not completed.
    fn waiting(&self) -> u64 {
        let account = self.account.lock().unwrap();
        account.registered.len().saturating_sub(account.completed.len()) as u64
    }

    async fn produce(self) {
        while !self.is_over.load(Ordering::SeqCst) {
            // sleep: the load is this fast.
            self.clock.sleep(PACE).await;
            if self.waiting() > BACKLOG {
                continue;
            }
            let first = self.next.fetch_add(GROUP, Ordering::SeqCst);
            let ids: Vec<BatchId> = (first..first + GROUP)
                .map(|number| BatchId::try_new(&format!("load:{number}")).unwrap())
                .collect();
            let spec = |id: &BatchId| BatchSpec {
                rows: 1,
                bytes: 8,
                locations: vec!["grpc://127.0.0.1:1".to_owned()],
                ..BatchSpec::new(id.clone())
            };
            let registered = self.client.register(ids.iter().map(spec).collect()).await.unwrap();
            assert_eq!(registered.len(), ids.len());
            self.tell(|account| account.registered.extend(ids));
        }
    }

    async fn work(self, name: String) {
        let mut number = 0;
        loop {
            number += 1;
            let request = ClaimRequest {
                start: true,
                wait: Duration::from_secs(1),
                ..ClaimRequest::new(&*name, &*format!("{name}:{number}"), 8, self.lease)
            };
            let claim = self.client.claim(request).await.unwrap();
            if claim.leases.is_empty() {
                continue;
            }
            self.tell(|account| {
                for lease in &claim.leases {
                    let before = account.leases.insert(lease.spec.id.clone(), lease.fence);
                    let is_one = before.is_none() || self.lease < LEASE;
                    assert!(is_one, "{} is under two leases", lease.spec.id);
                    assert!(before.is_none_or(|before| before < lease.fence), "an older token");
                    account.greatest = account.greatest.max(Some(lease.fence));
                }
            });
            let outcomes: Vec<Outcome> = claim
                .leases
                .iter()
                .map(|lease| Outcome {
                    lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
                    resolution: Resolution::Completed,
                    error: None,
                    outputs: vec![],
                    delay: Duration::ZERO,
                })
                .collect();
            let request = SettleRequest { outcomes, ..SettleRequest::default() };
            let settled = self.client.settle(request).await.unwrap();
            self.tell(|account| {
                for (lease, outcome) in claim.leases.into_iter().zip(settled.outcomes) {
                    let done = matches!(outcome.verdict, Verdict::Applied | Verdict::AlreadyDone);
                    assert!(done, "{}: {outcome:?}", lease.spec.id);
                    account.completed.insert(lease.spec.id);
                }
            });
        }
    }
}
