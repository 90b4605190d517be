//! The suite that every [`Coordinator`] runs, also through a network.
//!
//! [`run`] makes a fresh coordinator for each rule of the contract and fails
//! by panicking; [`random`] compares a long seeded run with a model that is
//! simple enough to be read in one go.
#![allow(clippy::unwrap_used, reason = "a test suite: it fails by panicking")]

mod calls;
mod families;
mod leases;
pub mod migration;
mod model;
mod oracle;
mod queues;
mod shares;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, RetryPolicy, Timestamp};

pub use oracle::{random, random_alike};

use crate::contract::{Coordinator, Error};
use crate::ext::CoordinatorExt as _;
use crate::model::{Batch, BatchSpec, Failure, Fence, Resolution, State};
use crate::request::{
    Answer, Claim, ClaimRequest, Extension, Lease, LeaseRef, Outcome, Position, Query, QueueStats,
    SettleReply, SettleRequest, Settled, Verdict,
};

/// Makes coordinators and lets time pass for them.
///
/// 1. `fresh` makes a coordinator without batches; the one before may be gone.
/// 2. `advance` returns when that time has passed for the coordinator, and
///    what was due then has happened.
/// 3. `reopen` stops the coordinator in order and starts it again on the same
///    state; `None` where that is not possible.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A new, empty coordinator.
    async fn fresh(&self) -> Arc<dyn Coordinator>;

    /// Lets time pass.
    async fn advance(&self, by: Duration);

    /// The same state after a restart.
    async fn reopen(&self) -> Option<Arc<dyn Coordinator>>;

    /// Whether time stands still but for `advance`.
    fn is_time_still(&self) -> bool;

    /// The lease that tests let run out; longer than a few calls take.
    fn lease(&self) -> Duration {
        Duration::from_secs(1)
    }
}

type Rule = for<'a> fn(&'a dyn Harness) -> BoxFuture<'a, ()>;

macro_rules! rules {
    ($($module:ident :: $name:ident),+ $(,)?) => {
        /// Every test of the suite, by name.
        pub const RULES: &[(&str, Rule)] =
            &[$( (stringify!($name), |harness| $module::$name(harness).boxed()) ),+];
    };
}

rules![
    calls::rule_01_every_batch_is_in_one_place,
    calls::rule_02_claims_are_bounded_and_ordered,
    calls::rule_02_near_payloads_are_preferred,
    shares::rule_02_tenants_take_turns,
    leases::rule_03_tokens_ascend_also_across_a_restart,
    leases::rule_04_old_tokens_change_nothing,
    calls::rule_05_settle_is_one_step,
    calls::rule_06_every_call_may_be_sent_again,
    queues::rule_06_a_claim_that_waits_may_be_sent_again,
    leases::rule_07_retries_are_counted,
    leases::rule_07_a_permanent_failure_is_the_last,
    leases::rule_07_what_ended_is_known_while_it_is_tried_again,
    leases::rule_08_a_lost_lease_returns_its_batch,
    leases::rule_08_ten_lost_leases_are_the_end,
    leases::rule_08_a_release_charges_nothing,
    leases::rule_08_a_release_may_rest,
    leases::rule_09_only_the_coordinators_clock_decides,
    queues::rule_10_expiry_is_counted,
    queues::rule_11_waiting_claims_are_woken,
    queues::rule_11_a_claim_that_waits_behind_a_settle_is_woken,
    queues::rule_12_pause_and_drain,
    shares::rule_12_leases_are_capped,
    shares::rule_12_rates_are_kept,
    shares::rule_12_bytes_are_bounded,
    families::rule_13_keys_are_registered_once,
    families::rule_13_batches_wait_for_others,
    families::rule_13_failures_reach_those_that_wait,
    leases::rule_14_recovery_tells_what_a_lease_is_worth,
    leases::rule_14_a_history_has_what_was_registered_and_not_more,
    queues::rule_15_lists_go_on_where_they_ended,
    queues::cancelled_work_is_told_and_requeued_work_starts_anew,
    queues::limits_are_refused_and_texts_cut,
    queues::events_tell_every_change,
    families::lineage_goes_over_parents_and_outputs,
];

/// Runs every test of the suite.
///
/// # Panics
/// When the coordinator breaks a rule; its name is on stderr.
pub async fn run(harness: &dyn Harness) {
    for (name, rule) in RULES {
        eprintln!("conformance: {name}");
        rule(harness).await;
    }
}

fn id(name: &str) -> BatchId {
    name.parse().unwrap()
}

/// A batch of 10 rows and 100 bytes that is retried at once, twice.
fn spec(name: &str) -> BatchSpec {
    let retry = RetryPolicy { max_retries: 2, base_ms: 0, jitter: 0.0, ..RetryPolicy::default() };
    BatchSpec { rows: 10, bytes: 100, retry: Some(retry), ..BatchSpec::new(id(name)) }
}

fn names(leases: &[Lease]) -> Vec<&str> {
    leases.iter().map(|lease| lease.spec.id.as_str()).collect()
}

fn reference(lease: &Lease) -> LeaseRef {
    LeaseRef { id: lease.spec.id.clone(), fence: lease.fence }
}

fn outcome(lease: &Lease, resolution: Resolution) -> Outcome {
    Outcome {
        lease: reference(lease),
        resolution,
        error: None,
        outputs: Vec::new(),
        delay: Duration::ZERO,
    }
}

fn failure(permanent: bool) -> Failure {
    Failure {
        code: Code::ProcessorFailed,
        message: "broken".to_owned(),
        permanent,
        at: Timestamp::EPOCH,
    }
}

fn extension(lease: &Lease, started: bool) -> Extension {
    Extension { lease: reference(lease), started, progress: None, duration: None }
}

fn request(name: &str, max: u32) -> ClaimRequest {
    ClaimRequest::new("worker", name, max, Duration::from_secs(600))
}

/// Short forms of calls, for one coordinator.
struct Calls(Arc<dyn Coordinator>);

impl Calls {
    async fn new(harness: &dyn Harness) -> Self {
        Calls(harness.fresh().await)
    }

    async fn register(&self, specs: Vec<BatchSpec>) {
        let count = specs.len();
        let registered = self.0.register(specs).await.unwrap();
        assert_eq!(registered.iter().filter(|one| one.created).count(), count);
    }

    async fn claim(&self, request: ClaimRequest) -> Claim {
        self.0.claim(request).await.unwrap()
    }

    /// Claims one batch, which must be there.
    async fn one(&self, request: ClaimRequest) -> Lease {
        let mut leases = self.claim(request).await.leases;
        assert_eq!(leases.len(), 1, "one batch is there to be claimed");
        leases.remove(0)
    }

    async fn settle(&self, outcomes: Vec<Outcome>) -> SettleReply {
        let request = SettleRequest { outcomes, ..SettleRequest::default() };
        self.0.settle(request).await.unwrap()
    }

    async fn end(&self, lease: &Lease, resolution: Resolution) -> Settled {
        self.settle(vec![outcome(lease, resolution)]).await.outcomes.remove(0)
    }

    async fn get(&self, name: &str) -> Option<Batch> {
        match self.0.query(Query::Get(vec![id(name)])).await.unwrap() {
            Answer::Batches(mut page) => page.batches.pop(),
            other => panic!("a get answers with batches, not {other:?}"),
        }
    }

    async fn state(&self, name: &str) -> State {
        self.get(name).await.unwrap().state
    }

    async fn stats(&self) -> Vec<QueueStats> {
        match self.0.query(Query::Stats(None)).await.unwrap() {
            Answer::Stats(stats) => stats,
            other => panic!("a question for counts answers with counts, not {other:?}"),
        }
    }

    async fn count(&self, state: State) -> u64 {
        self.stats().await.iter().map(|queue| queue.counts[&state]).sum()
    }
}

fn is(settled: &Settled, verdict: Verdict, state: State) {
    assert_eq!((settled.verdict, settled.state), (verdict, Some(state)), "{}", settled.id);
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    sheaf_retry::Retryable::code(&result.unwrap_err())
}

fn fence_of(lease: &Lease) -> Fence {
    lease.fence
}
