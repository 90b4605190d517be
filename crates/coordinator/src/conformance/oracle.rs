//! A long random run beside a model that is simple enough to be read in one go.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::model::{Item, Oracle, RETRIES};
use super::*;
use crate::model::OnParentFailure;
use crate::policy::QueuePolicy;
use crate::request::{Control, ListFilter};

const BACKOFF: Duration = Duration::from_secs(5);
const QUEUES: [&str; 2] = ["p", "q"];
const TENANTS: [&str; 3] = ["", "a", "b"];

struct Run<'a> {
    harness: &'a dyn Harness,
    calls: Calls,
    oracle: Oracle,
    random: StdRng,
    /// Every lease that was ever given, to be used too late as well.
    leases: Vec<Lease>,
    /// Those of the last claim.
    together: Vec<Lease>,
    made: usize,
    /// Little but batches that are alike and go their way together.
    alike: bool,
}

/// Runs `steps` random calls from `seed` and compares every batch, every
/// answer and every count with the model after each.
///
/// # Panics
/// On the first difference; the seed and the step are in the message.
pub async fn random(harness: &dyn Harness, seed: u64, steps: usize) {
    run(harness, seed, steps, false).await;
}

/// As [`random`], with little but batches that are alike and go their way together,
/// for backends that keep such as one.
///
/// # Panics
/// As [`random`].
pub async fn random_alike(harness: &dyn Harness, seed: u64, steps: usize) {
    run(harness, seed, steps, true).await;
}

async fn run(harness: &dyn Harness, seed: u64, steps: usize, alike: bool) {
    let calls = Calls::new(harness).await;
    let now = calls.claim(request("first", 1)).await.now;
    let still = harness.is_time_still();
    let oracle = Oracle {
        items: BTreeMap::new(),
        paused: [false; 2],
        policy: Default::default(),
        turns: Default::default(),
        now,
        last_fence: Fence(0),
        // Where time runs by itself, nothing may depend on when a call is made.
        backoff: if still { BACKOFF } else { Duration::ZERO },
        lease: Duration::from_secs(if still { 30 } else { 3_600 }),
    };
    let random = StdRng::seed_from_u64(seed);
    let (leases, together) = (Vec::new(), Vec::new());
    let mut run = Run { harness, calls, oracle, random, leases, together, made: 0, alike };
    for step in 0..steps {
        let what = format!("seed {seed}, step {step}");
        run.step(&what).await;
        run.oracle.follow();
        run.compare(&what).await;
    }
}

impl Run<'_> {
    async fn step(&mut self, what: &str) {
        if self.alike {
            return match self.random.random_range(0..100) {
                0..25 => self.register_many(what).await,
                25..60 => self.claim(what).await,
                60..86 => self.settle(what).await,
                86..88 => self.extend(what).await,
                88..92 => self.by_hand(what).await,
                92..94 => self.reopen().await,
                _ => self.pass().await,
            };
        }
        match self.random.random_range(0..100) {
            0..20 => self.register(what).await,
            20..45 => self.claim(what).await,
            45..72 => self.settle(what).await,
            72..80 => self.extend(what).await,
            80..88 => self.by_hand(what).await,
            88..92 => self.switch().await,
            92..94 => self.reopen().await,
            _ => self.pass().await,
        }
    }

    async fn register(&mut self, what: &str) {
        if self.random.random_range(0..3) == 0 {
            return self.register_many(what).await;
        }
        let mut specs = Vec::new();
        for _ in 0..self.random.random_range(1..4) {
            // One in five is there already, as long as the model holds it.
            let again = self.made > 0 && self.random.random_range(0..5) == 0;
            let number = if again { self.random.random_range(0..self.made) } else { self.made };
            self.made += usize::from(!again);
            // Every fourth waits for two before it, every sixth has a key.
            let parents = if number % 4 == 3 { number - 2..number } else { 0..0 };
            let parents = parents.map(|n| format!("b{n}"));
            let depends_on: Vec<_> =
                parents.filter(|name| self.oracle.items.contains_key(name)).collect();
            let kinds = [OnParentFailure::Fail, OnParentFailure::Wait, OnParentFailure::Cancel];
            let has_key = number % 6 == 5;
            specs.push(BatchSpec {
                queue: QUEUES[number % 2].to_owned(),
                tenant: TENANTS[number / 2 % 3].to_owned(),
                priority: i32::try_from(number % 5 / 2).unwrap(),
                bytes: 100 * (number as u64 % 4),
                retry: Some(self.retry()),
                depends_on: depends_on.iter().map(|name| id(name)).collect(),
                on_parent_failure: kinds[number / 4 % 3],
                dedup_key: if has_key { format!("k{}", number % 4) } else { String::new() },
                dedup_window: Duration::from_secs(if has_key { 24 * 3_600 } else { 0 }),
                ..spec(&format!("b{number}"))
            });
        }
        self.enter_all(specs, what).await;
    }

    fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            max_retries: RETRIES,
            base_ms: u64::try_from(self.oracle.backoff.as_millis()).unwrap(),
            factor: 1.0,
            jitter: 0.0,
            ..RetryPolicy::default()
        }
    }

    /// Several that are alike in all but name and size, which a backend may keep as one.
    async fn register_many(&mut self, what: &str) {
        let (first, alike) = (self.made, self.alike);
        self.made += self.random.random_range(2..10);
        let numbers = first..self.made;
        let alike = numbers.map(|number| BatchSpec {
            queue: QUEUES[first % 2].to_owned(),
            tenant: TENANTS[if first % 4 == 0 && !alike { first / 4 % 3 } else { 0 }].to_owned(),
            priority: i32::from(first % 8 == 7 && !alike),
            bytes: 100 * (number as u64 % 4),
            retry: Some(self.retry()),
            ..spec(&format!("m{number}"))
        });
        let alike = alike.collect();
        self.enter_all(alike, what).await;
    }

    async fn enter_all(&mut self, specs: Vec<BatchSpec>, what: &str) {
        let registered = self.calls.0.register(specs.clone()).await.unwrap();
        for (spec, answer) in specs.into_iter().zip(registered) {
            let (name, created) = self.enter(&spec);
            assert_eq!((answer.id.as_str(), answer.created), (name.as_str(), created), "{what}");
        }
        self.oracle.follow();
    }

    /// The model's registration: the name of the batch, and whether it is new.
    fn enter(&mut self, spec: &BatchSpec) -> (String, bool) {
        let queue = usize::from(spec.queue == QUEUES[1]);
        let name = spec.id.to_string();
        if self.oracle.items.contains_key(&name) {
            return (name, false);
        }
        let first = self.oracle.items.iter().find(|(_, item)| {
            !item.key.is_empty()
                && (item.queue, &item.tenant, &item.key) == (queue, &spec.tenant, &spec.dedup_key)
        });
        if let Some((first, _)) = first {
            return (first.clone(), false);
        }
        let depends_on: Vec<String> = spec.depends_on.iter().map(ToString::to_string).collect();
        let unmet = self.oracle.open(&depends_on);
        let state = if unmet.is_empty() { State::Pending } else { State::Waiting };
        let item = Item {
            queue,
            tenant: spec.tenant.clone(),
            key: spec.dedup_key.clone(),
            depends_on,
            unmet,
            on: spec.on_parent_failure,
            priority: spec.priority,
            bytes: spec.bytes,
            order: self.oracle.items.len(),
            state,
            attempts: 0,
            lost: 0,
            started: false,
            fence: Fence(0),
            at: Timestamp::EPOCH,
            settled: None,
        };
        self.oracle.items.insert(name.clone(), item);
        (name, true)
    }

    async fn claim(&mut self, what: &str) {
        let queues = [vec![0], vec![1], vec![0, 1]][self.random.random_range(0..3)].clone();
        let max = self.random.random_range(1..10);
        let bounds = if self.alike && self.random.random_bool(0.7) { 1 } else { 4 };
        let max_bytes = self.random.random_range(0..bounds) * 150;
        let start = self.random.random_bool(if self.alike { 0.8 } else { 0.5 });
        let claim = ClaimRequest {
            queues: queues.iter().map(|queue| QUEUES[*queue].to_owned()).collect(),
            max_bytes,
            start,
            lease: self.oracle.lease,
            ..request(what, max)
        };
        let expected = self.oracle.expected(&queues, max as usize, max_bytes);
        let got = self.calls.claim(claim.clone()).await;
        assert_eq!(names(&got.leases), expected, "{what}: {claim:?}");
        if self.random.random_bool(if self.alike { 0.1 } else { 0.4 }) {
            // Sent again it is the same, or, having given nothing, a new one.
            assert_eq!(self.calls.claim(claim).await.leases.len(), got.leases.len());
        }
        self.together = got.leases.clone();
        for lease in got.leases {
            assert!(lease.fence > self.oracle.last_fence, "{what}: tokens ascend");
            self.oracle.last_fence = lease.fence;
            self.oracle.serve(lease.spec.id.as_str());
            let item = self.oracle.items.get_mut(lease.spec.id.as_str()).unwrap();
            item.state = State::Processing;
            item.fence = lease.fence;
            item.at = lease.deadline;
            assert_eq!(lease.attempt, item.attempts + 1, "{what}");
            if start {
                item.start();
            }
            self.leases.push(lease);
        }
    }

    /// One of the last leases, which may be over.
    fn any_lease(&mut self) -> Option<Lease> {
        let from = self.leases.len().saturating_sub(12);
        let recent = self.leases.get(from..).filter(|leases| !leases.is_empty())?;
        Some(recent[self.random.random_range(0..recent.len())].clone())
    }

    async fn settle(&mut self, what: &str) {
        if self.random.random_range(0..if self.alike { 5 } else { 3 }) == 0
            || self.alike && self.random.random_bool(0.7)
        {
            return self.settle_together(what).await;
        }
        let Some(lease) = self.any_lease() else { return };
        let kinds = [
            Resolution::Completed,
            Resolution::Completed,
            Resolution::Failed,
            Resolution::Failed,
            Resolution::Released,
        ];
        let how = kinds[self.random.random_range(0..kinds.len())];
        let permanent = self.random.random_range(0..6) == 0;
        let mut outcome = outcome(&lease, how);
        outcome.error = (how == Resolution::Failed).then(|| failure(permanent));
        let name = lease.spec.id.as_str();
        let expected = self.oracle.settle(name, lease.fence, how, permanent);
        let got = self.calls.settle(vec![outcome]).await.outcomes.remove(0);
        assert_eq!(got.verdict, expected, "{what}: {how:?} of {lease:?}");
    }

    /// All that the last claim gave, in one call, or all but one.
    async fn settle_together(&mut self, what: &str) {
        let mut leases = self.together.clone();
        if leases.len() > 1 && self.random.random_bool(0.2) {
            leases.remove(self.random.random_range(0..leases.len()));
        }
        let outcomes: Vec<Outcome> =
            leases.iter().map(|lease| outcome(lease, Resolution::Completed)).collect();
        let got = self.calls.settle(outcomes).await.outcomes;
        for (lease, got) in leases.iter().zip(got) {
            let name = lease.spec.id.as_str();
            let expected = self.oracle.settle(name, lease.fence, Resolution::Completed, false);
            assert_eq!(got.verdict, expected, "{what}: {lease:?}");
        }
    }

    async fn extend(&mut self, what: &str) {
        let Some(lease) = self.any_lease() else { return };
        let started = self.random.random_bool(0.5);
        let got = self.calls.0.extend(vec![extension(&lease, started)]).await.unwrap().remove(0);
        let (now, duration) = (self.oracle.now, self.oracle.lease);
        let item = self.oracle.items.get_mut(lease.spec.id.as_str()).unwrap();
        let stands = item.state == State::Processing && item.fence == lease.fence;
        let expected = if stands { Verdict::Applied } else { Verdict::Stale };
        assert_eq!(got.verdict, expected, "{what}: {lease:?}");
        if stands {
            item.at = now.plus(duration);
            if started {
                item.start();
            }
        }
    }

    async fn by_hand(&mut self, what: &str) {
        if self.made == 0 {
            return;
        }
        let known = self.oracle.items.len();
        let name = self.oracle.items.keys().nth(self.random.random_range(0..known.max(1)));
        let name = match name {
            Some(name) if self.random.random_range(0..10) > 0 => name.clone(),
            _ => "unknown".to_owned(),
        };
        let cancel = self.random.random_bool(0.3);
        let ids = vec![id(&name)];
        let control = if cancel { Control::Cancel(ids) } else { Control::Requeue(ids) };
        let got = self.calls.0.control(control).await.unwrap().batches.remove(0);
        let Some(item) = self.oracle.items.get(&name) else {
            assert_eq!(got.verdict, Verdict::NotFound, "{what}: {name}");
            return;
        };
        let unmet = self.oracle.open(&item.depends_on);
        let item = self.oracle.items.get_mut(&name).unwrap();
        let applied = if cancel { !item.state.is_terminal() } else { item.state.is_terminal() };
        assert_eq!(got.verdict == Verdict::Applied, applied, "{what}: {name}");
        if applied && cancel {
            item.end(State::Cancelled);
        } else if applied {
            item.end(if unmet.is_empty() { State::Pending } else { State::Waiting });
            item.unmet = unmet;
            (item.attempts, item.lost) = (0, 0);
        }
    }

    async fn switch(&mut self) {
        let queue = self.random.random_range(0..2);
        if self.random.random_bool(0.5) {
            let caps = [None, None, Some(2), Some(4)];
            let policy = QueuePolicy {
                max_leased: caps[self.random.random_range(0..4)],
                max_leased_per_tenant: caps[self.random.random_range(0..4)].map(|cap| cap / 2),
                ..QueuePolicy::default()
            };
            let control = Control::Configure(QUEUES[queue].to_owned(), policy.clone());
            self.calls.0.control(control).await.unwrap();
            self.oracle.policy[queue] = policy;
            return;
        }
        let paused = !self.oracle.paused[queue];
        let name = QUEUES[queue].to_owned();
        let control = if paused { Control::Pause(name) } else { Control::Resume(name) };
        self.calls.0.control(control).await.unwrap();
        self.oracle.paused[queue] = paused;
    }

    async fn reopen(&mut self) {
        let Some(coordinator) = self.harness.reopen().await else { return };
        self.calls = Calls(coordinator);
        // A restart gives every lease its full time anew.
        let end = self.oracle.now.plus(self.oracle.lease);
        let held = self.oracle.items.values_mut().filter(|item| item.state == State::Processing);
        held.for_each(|item| item.at = item.at.max(end));
    }

    async fn pass(&mut self) {
        if self.harness.is_time_still() {
            let by = Duration::from_millis(self.random.random_range(1..12_000));
            self.harness.advance(by).await;
            self.oracle.pass(by);
        }
    }

    async fn compare(&self, what: &str) {
        let mut counts = BTreeMap::new();
        let mut filter = ListFilter { limit: 1_000, ..ListFilter::default() };
        let mut seen = 0;
        loop {
            let query = Query::List(filter.clone());
            let Answer::Batches(page) = self.calls.0.query(query).await.unwrap() else {
                panic!("a list answers with batches")
            };
            for batch in page.batches {
                let item = &self.oracle.items[batch.spec.id.as_str()];
                let got = (batch.state, batch.attempts, batch.lost_leases, batch.last_fence);
                let expected = (item.state, item.attempts, item.lost, item.fence);
                assert_eq!(got, expected, "{what}: {}", batch.spec.id);
                assert_eq!(batch.lease.is_some(), batch.state == State::Processing, "{what}");
                let queue = (batch.spec.queue.clone(), batch.state);
                *counts.entry(queue).or_insert(0) += 1;
                seen += 1;
            }
            if page.next_cursor.is_empty() {
                break;
            }
            filter.cursor = page.next_cursor;
        }
        assert_eq!(seen, self.oracle.items.len(), "{what}: none is lost, none made up");
        for queue in self.calls.stats().await {
            for (state, count) in queue.counts {
                let expected = counts.get(&(queue.queue.clone(), state)).copied().unwrap_or(0);
                assert_eq!(count, expected, "{what}: {state} in {}", queue.queue);
            }
        }
    }
}
