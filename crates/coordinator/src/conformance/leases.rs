//! Rules 3, 4, 7, 8, 9 and 14.

use super::*;
use crate::Control;
use crate::request::Standing;

fn short(harness: &dyn Harness, name: &str) -> ClaimRequest {
    ClaimRequest { lease: harness.lease(), ..request(name, 1) }
}

/// Longer than the lease.
fn past(harness: &dyn Harness) -> Duration {
    harness.lease() + harness.lease() / 4
}

pub(super) async fn rule_03_tokens_ascend_also_across_a_restart(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let mut last = Fence(0);
    for n in 0..20 {
        let lease = calls.one(request(&format!("r{n}"), 1)).await;
        assert!(lease.fence > last, "{} after {last}", lease.fence);
        last = lease.fence;
        calls.end(&lease, Resolution::Released).await;
        if n == 10
            && let Some(reopened) = harness.reopen().await
        {
            calls = Calls(reopened);
            assert_eq!(calls.get("a").await.unwrap().last_fence, last);
        }
    }
}

pub(super) async fn rule_04_old_tokens_change_nothing(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let old = calls.one(short(harness, "r1")).await;
    harness.advance(past(harness)).await;
    is(&calls.end(&old, Resolution::Completed).await, Verdict::Stale, State::Pending);
    let new = calls.one(request("r2", 1)).await;
    let before = calls.get("a").await;
    for resolution in [Resolution::Completed, Resolution::Failed, Resolution::Released] {
        is(&calls.end(&old, resolution).await, Verdict::Stale, State::Processing);
    }
    let extended = calls.0.extend(vec![extension(&old, true)]).await.unwrap();
    assert_eq!((extended[0].verdict, extended[0].deadline), (Verdict::Stale, None));
    assert_eq!(calls.get("a").await, before, "nothing changed");
    is(&calls.end(&new, Resolution::Completed).await, Verdict::Applied, State::Completed);
    is(&calls.end(&new, Resolution::Completed).await, Verdict::AlreadyDone, State::Completed);
    let many = (0..10).map(|number| spec(&format!("m{number}")));
    calls.register(many.collect()).await;
    let mut claim = request("many", 10);
    claim.start = true;
    let leases = calls.claim(claim).await.leases;
    let forged = leases.iter().map(|lease| {
        let mut outcome = outcome(lease, Resolution::Completed);
        outcome.lease.fence = Fence(lease.fence.0 + 1);
        outcome
    });
    for settled in calls.settle(forged.collect()).await.outcomes {
        is(&settled, Verdict::Stale, State::Processing);
    }
    let all = leases.iter().map(|lease| outcome(lease, Resolution::Completed));
    for settled in calls.settle(all.collect()).await.outcomes {
        is(&settled, Verdict::Applied, State::Completed);
    }
    let mut unknown = outcome(&new, Resolution::Completed);
    unknown.lease.id = id("unknown");
    let reply = calls.settle(vec![unknown]).await;
    assert_eq!((reply.outcomes[0].verdict, reply.outcomes[0].state), (Verdict::NotFound, None));
}

pub(super) async fn rule_07_retries_are_counted(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    let mut once = spec("once");
    once.retry = Some(RetryPolicy::none());
    let mut slow = spec("slow");
    slow.retry =
        Some(RetryPolicy { max_retries: 1, base_ms: 1_000, jitter: 0.0, ..RetryPolicy::default() });
    calls.register(vec![spec("thrice"), once, slow]).await;
    let named = |name: &str, n: u32| ClaimRequest {
        ids: vec![id(name)],
        ..request(&format!("{name}{n}"), 1)
    };
    for attempt in 1..=3 {
        let lease = calls.one(named("thrice", attempt)).await;
        assert_eq!(lease.attempt, attempt);
        let state = if attempt == 3 { State::Failed } else { State::Pending };
        is(&calls.end(&lease, Resolution::Failed).await, Verdict::Applied, state);
    }
    let batch = calls.get("thrice").await.unwrap();
    assert_eq!(batch.attempts, 3, "two retries after the first attempt");
    assert!(batch.error.is_some() && batch.finished_at.is_some());
    let lease = calls.one(named("once", 1)).await;
    is(&calls.end(&lease, Resolution::Failed).await, Verdict::Applied, State::Failed);
    let lease = calls.one(named("slow", 1)).await;
    is(&calls.end(&lease, Resolution::Failed).await, Verdict::Applied, State::Scheduled);
    let batch = calls.get("slow").await.unwrap();
    let delay = batch.due_at.unwrap().since(batch.updated_at);
    assert_eq!(delay, Duration::from_secs(1), "the batch's own policy");
    assert!(calls.claim(named("slow", 2)).await.leases.is_empty());
    harness.advance(Duration::from_millis(1_250)).await;
    let lease = calls.one(named("slow", 3)).await;
    is(&calls.end(&lease, Resolution::Failed).await, Verdict::Applied, State::Failed);
}

pub(super) async fn rule_07_a_permanent_failure_is_the_last(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let lease = calls.one(request("r", 1)).await;
    let mut failed = outcome(&lease, Resolution::Failed);
    failed.error = Some(failure(true));
    is(&calls.settle(vec![failed]).await.outcomes[0], Verdict::Applied, State::Failed);
    let batch = calls.get("a").await.unwrap();
    let error = batch.error.unwrap();
    assert_eq!((error.code, error.message.as_str()), (Code::ProcessorFailed, "broken"));
    assert_eq!((batch.attempts, error.at), (1, batch.updated_at), "by the coordinator's clock");
}

pub(super) async fn rule_07_what_ended_is_known_while_it_is_tried_again(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let first = calls.one(request("r1", 1)).await;
    let mut failed = outcome(&first, Resolution::Failed);
    failed.error = Some(failure(false));
    is(&calls.settle(vec![failed.clone()]).await.outcomes[0], Verdict::Applied, State::Pending);
    let second = calls.one(ClaimRequest { start: true, ..request("r2", 1) }).await;
    let batch = calls.get("a").await.unwrap();
    assert_eq!(batch.error.unwrap().message, "broken", "the last one, until it is done");
    assert_eq!((second.attempt, batch.attempts), (2, 2));
    let settled = batch.settled.unwrap();
    assert_eq!(settled, (first.fence, Resolution::Failed), "not with the token that it has now");
    is(&calls.settle(vec![failed]).await.outcomes[0], Verdict::AlreadyDone, State::Processing);
    is(&calls.end(&first, Resolution::Completed).await, Verdict::Stale, State::Processing);
    is(&calls.end(&second, Resolution::Completed).await, Verdict::Applied, State::Completed);

    calls.register(vec![spec("b")]).await;
    let first = calls.one(ClaimRequest { start: true, ..request("r3", 1) }).await;
    is(&calls.end(&first, Resolution::Completed).await, Verdict::Applied, State::Completed);
    calls.0.control(Control::Requeue(vec![id("b")])).await.unwrap();
    let second = calls.one(request("r4", 1)).await;
    let batch = calls.get("b").await.unwrap();
    assert_eq!(batch.settled.unwrap(), (first.fence, Resolution::Completed));
    is(&calls.end(&first, Resolution::Completed).await, Verdict::AlreadyDone, State::Processing);
    is(&calls.end(&second, Resolution::Completed).await, Verdict::Applied, State::Completed);
}

pub(super) async fn rule_08_a_lost_lease_returns_its_batch(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let lease = calls.one(short(harness, "r1")).await;
    harness.advance(harness.lease() / 2).await;
    let extended = calls.0.extend(vec![extension(&lease, false)]).await.unwrap();
    assert_eq!(extended[0].verdict, Verdict::Applied);
    assert!(extended[0].deadline.unwrap() > lease.deadline);
    harness.advance(harness.lease() * 5 / 8).await;
    assert_eq!(calls.state("a").await, State::Processing, "the extension counts");
    harness.advance(past(harness)).await;
    let batch = calls.get("a").await.unwrap();
    assert_eq!((batch.state, batch.attempts, batch.lost_leases), (State::Pending, 0, 1));
    assert_eq!(batch.lease, None);
    let started = ClaimRequest { start: true, ..short(harness, "r2") };
    let again = calls.one(started).await;
    assert!(again.fence > fence_of(&lease));
    harness.advance(past(harness)).await;
    let batch = calls.get("a").await.unwrap();
    assert_eq!((batch.state, batch.attempts, batch.lost_leases), (State::Pending, 1, 2));
    let queue = || "many".to_owned();
    let many = (0..10).map(|n| BatchSpec { queue: queue(), ..spec(&format!("m{n}")) });
    calls.register(many.collect()).await;
    let many = short(harness, "many");
    let many = ClaimRequest { max: 10, start: true, queues: vec![queue()], ..many };
    let leases = calls.claim(many).await.leases;
    assert_eq!(leases.len(), 10);
    harness.advance(past(harness)).await;
    for lease in &leases {
        let batch = calls.get(lease.spec.id.as_str()).await.unwrap();
        let found = (batch.state, batch.attempts, batch.lost_leases);
        assert_eq!(found, (State::Pending, 1, 1), "{}", lease.spec.id);
    }
}

pub(super) async fn rule_08_ten_lost_leases_are_the_end(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    for n in 0..10 {
        assert_eq!(calls.state("a").await, State::Pending, "after {n} lost leases");
        let least = Duration::from_millis(100);
        let lease = if harness.is_time_still() { harness.lease() } else { least };
        calls.one(ClaimRequest { lease, ..request(&format!("r{n}"), 1) }).await;
        harness.advance(lease * 2).await;
    }
    let batch = calls.get("a").await.unwrap();
    assert_eq!((batch.state, batch.attempts), (State::Failed, 0));
    assert_eq!(batch.error.unwrap().code, Code::LeaseLost);
}

pub(super) async fn rule_08_a_release_charges_nothing(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    for n in 0..5 {
        let start = n % 2 == 0;
        let lease = calls.one(ClaimRequest { start, ..request(&format!("r{n}"), 1) }).await;
        assert_eq!(lease.attempt, 1);
        is(&calls.end(&lease, Resolution::Released).await, Verdict::Applied, State::Pending);
        assert_eq!(calls.get("a").await.unwrap().attempts, 0);
    }
}

pub(super) async fn rule_08_a_release_may_rest(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let lease = calls.one(ClaimRequest { start: true, ..request("r", 1) }).await;
    let away = outcome(&lease, Resolution::Released);
    let wrong =
        Outcome { resolution: Resolution::Completed, delay: harness.lease(), ..away.clone() };
    let wrong = SettleRequest { outcomes: vec![wrong], ..SettleRequest::default() };
    assert!(calls.0.settle(wrong).await.is_err(), "only a release rests");
    let away = Outcome { delay: harness.lease(), error: Some(failure(false)), ..away };
    for verdict in [Verdict::Applied, Verdict::AlreadyDone] {
        is(&calls.settle(vec![away.clone()]).await.outcomes[0], verdict, State::Scheduled);
    }
    let batch = calls.get("a").await.unwrap();
    assert_eq!((batch.attempts, batch.error.unwrap().message.as_str()), (0, "broken"));
    harness.advance(harness.lease() * 2).await;
    let lease = calls.one(request("again", 1)).await;
    assert_eq!(lease.attempt, 1);
}

pub(super) async fn rule_09_only_the_coordinators_clock_decides(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("a")]).await;
    let claim = calls.claim(short(harness, "r")).await;
    let lease = &claim.leases[0];
    assert_eq!(lease.deadline, claim.now.plus(harness.lease()));
    let mut failed = outcome(lease, Resolution::Failed);
    // A worker whose clock is far off.
    failed.error = Some(Failure { at: Timestamp::MAX, ..failure(true) });
    calls.settle(vec![failed]).await;
    let batch = calls.get("a").await.unwrap();
    let late = claim.now.plus(Duration::from_secs(60));
    assert!(batch.error.unwrap().at < late && batch.finished_at.unwrap() < late);
}

pub(super) async fn rule_14_recovery_tells_what_a_lease_is_worth(harness: &dyn Harness) {
    let calls = Calls::new(harness).await;
    calls.register(vec![spec("settled"), spec("current"), spec("lost")]).await;
    let settled = calls.one(request("r1", 1)).await;
    let current = calls.one(request("r2", 1)).await;
    let lost = calls.one(short(harness, "r3")).await;
    calls.end(&settled, Resolution::Completed).await;
    harness.advance(past(harness)).await;
    let mut leases: Vec<LeaseRef> = [&settled, &current, &lost].map(reference).to_vec();
    leases.push(LeaseRef { id: id("unknown"), fence: Fence(1) });
    let Answer::Recovery(answers) = calls.0.query(Query::Recovery(leases)).await.unwrap() else {
        panic!("a recovery answers with standings")
    };
    let standings: Vec<Standing> = answers.iter().map(|answer| answer.standing).collect();
    let expected = [Standing::Settled, Standing::Current, Standing::Stale, Standing::NotFound];
    assert_eq!(standings, expected);
    assert_eq!(answers[0].state, Some(State::Completed));
}

pub(super) async fn rule_14_a_history_has_what_was_registered_and_not_more(harness: &dyn Harness) {
    let mut calls = Calls::new(harness).await;
    let [a, b] = ["a", "b"].map(spec);
    let first = calls.0.register(vec![a.clone(), b.clone()]).await.unwrap();
    let [first, second] = [first[0].position, first[1].position];
    assert!(first.sequence < second.sequence && first.run == second.run, "{first:?} {second:?}");
    let again = calls.0.register(vec![a]).await.unwrap();
    assert_eq!(again[0].position, first, "the same batch");
    let history = calls.0.history().await.unwrap();
    let later = Position { sequence: second.sequence + 1, ..first };
    assert!(history.has(first) && history.has(second) && !history.has(later), "{history:?}");
    assert!(!history.has(Position::UNKNOWN));
    if let Some(reopened) = harness.reopen().await {
        calls = Calls(reopened);
        let third = calls.0.register(vec![spec("c")]).await.unwrap()[0].position;
        assert_ne!(third.run, first.run, "another run");
        let history = calls.0.history().await.unwrap();
        assert!(history.has(first) && history.has(second) && history.has(third), "{history:?}");
        assert!(!history.has(later), "that run has ended: {history:?}");
        let again = calls.0.register(vec![b]).await.unwrap()[0].position;
        assert_eq!(again, Position { run: third.run, ..second });
    }
    let other = Calls::new(harness).await;
    assert!(!other.0.history().await.unwrap().has(first));
}
