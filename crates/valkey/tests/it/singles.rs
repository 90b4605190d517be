//! Claims of one batch each that come together: they share blocks, which nobody may see.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use sheaf_coordinator::{
    ClaimRequest, Control, Coordinator, CoordinatorExt as _, Extension, Lease, QueuePolicy,
    Resolution, SettleRequest, State, Verdict,
};
use sheaf_testkit::{Valkey, wait_for_async};
use sheaf_valkey::ValkeyCoordinator;

use crate::kit::{self, DEADLINE, LONG, builder, connect};

/// As many claims as batches, each of another worker.
const COUNT: u32 = 32;

async fn claims(coordinator: &ValkeyCoordinator, turn: &str, lease: Duration) -> Vec<Lease> {
    let claim = |number| {
        let request = kit::request(&format!("worker-{number}"), turn, 1);
        coordinator.claim(ClaimRequest { lease, ..request })
    };
    let claims = try_join_all((0..COUNT).map(claim)).await.unwrap();
    claims.into_iter().flat_map(|claim| claim.leases).collect()
}

/// How many claims share blocks now.
fn sharing(server: &Valkey) -> usize {
    let mut connection = server.connect().unwrap();
    let keys = connection.command(&["KEYS", "*:cl:*"]).unwrap();
    let is_text = |key: &str| {
        let kind = server.command(&["TYPE", key]).unwrap();
        kind.text() == Some("string")
    };
    keys.items().iter().filter(|key| key.text().is_some_and(is_text)).count()
}

/// A coordinator with all batches under leases that share blocks.
async fn held(server: &Valkey, lease: Duration) -> (Arc<ValkeyCoordinator>, Vec<Lease>) {
    let coordinator = connect(builder(server.addr())).await;
    coordinator.register(kit::specs("one", COUNT)).await.unwrap();
    let leases = claims(&coordinator, "first", lease).await;
    let ids: BTreeSet<_> = leases.iter().map(|lease| &lease.spec.id).collect();
    assert_eq!(ids.len(), COUNT as usize, "each has another");
    assert_eq!(sharing(server), COUNT as usize);
    (coordinator, leases)
}

async fn settle_each(coordinator: &ValkeyCoordinator, leases: &[Lease]) {
    let settle = |lease: &Lease| {
        let settle = kit::settle(std::slice::from_ref(lease), Resolution::Completed);
        coordinator.settle(settle)
    };
    for reply in try_join_all(leases.iter().map(settle)).await.unwrap() {
        assert_eq!(reply.outcomes[0].verdict, Verdict::Applied);
    }
}

/// Everything is completed, and nothing is left of leases and claims.
async fn is_over(server: &Valkey, coordinator: &ValkeyCoordinator) {
    let counts = kit::counts(coordinator).await;
    assert_eq!(counts[&State::Completed], u64::from(COUNT));
    let left = server.command(&["KEYS", "*:cl:*"]).unwrap();
    assert_eq!(left.items().len(), 0);
    assert_eq!(server.command(&["EXISTS", "{sheaf}:ls"]).unwrap().integer(), Some(0));
}

#[tokio::test]
async fn what_is_settled_as_it_was_claimed_stays_a_block() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (coordinator, leases) = held(&server, LONG).await;
    for lease in &leases {
        let batch = coordinator.get(&lease.spec.id).await.unwrap().unwrap();
        let holder = batch.lease.unwrap();
        assert_eq!((batch.state, holder.fence), (State::Processing, lease.fence));
        assert_eq!(holder.deadline, lease.deadline);
        assert_eq!((holder.request_id.as_str(), holder.started), ("first", true));
    }
    assert_eq!(sharing(&server), COUNT as usize, "who looks changes nothing");
    settle_each(&coordinator, &leases).await;
    is_over(&server, &coordinator).await;
    let states = server.command(&["KEYS", "*:s:*"]).unwrap();
    assert_eq!(states.items().len(), 0, "none has a state of its own");
}

#[tokio::test]
async fn a_claim_that_is_sent_again_has_the_same_lease() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (coordinator, leases) = held(&server, LONG).await;
    let one = coordinator.claim(kit::request("worker-3", "first", 1)).await.unwrap();
    assert_eq!(kit::reference(&one.leases[0]), kit::reference(&leases[3]));
    let again = claims(&coordinator, "first", LONG).await;
    let references = |leases: &[Lease]| leases.iter().map(kit::reference).collect::<Vec<_>>();
    assert_eq!(references(&again), references(&leases));
    settle_each(&coordinator, &again).await;
    is_over(&server, &coordinator).await;
}

#[tokio::test]
async fn they_end_apart() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (coordinator, leases) = held(&server, LONG).await;
    // Every third, in another order.
    let (some, others): (Vec<_>, Vec<_>) =
        leases.into_iter().enumerate().partition(|(at, _)| at % 3 == 0);
    let leases = |all: Vec<(usize, Lease)>| all.into_iter().map(|(_, lease)| lease).collect();
    let (mut some, others): (Vec<Lease>, Vec<Lease>) = (leases(some), leases(others));
    some.reverse();
    settle_each(&coordinator, &some).await;
    assert_eq!(sharing(&server), 0);
    settle_each(&coordinator, &others).await;
    is_over(&server, &coordinator).await;
}

#[tokio::test]
async fn one_of_them_is_extended_another_cancelled_another_fails() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (coordinator, leases) = held(&server, LONG).await;
    let extension = |lease| Extension {
        lease: kit::reference(lease),
        duration: Some(LONG),
        started: true,
        progress: None,
    };
    let cancelled = Control::Cancel(vec![leases[20].spec.id.clone()]);
    assert_eq!(coordinator.control(cancelled).await.unwrap().count, 1);
    let extended = vec![extension(&leases[1]), extension(&leases[20])];
    let extended = coordinator.extend(extended).await.unwrap();
    assert_eq!((extended[0].verdict, extended[0].cancelled), (Verdict::Applied, false));
    assert!(extended[1].cancelled);
    let failed = kit::settle(&leases[2..3], Resolution::Failed);
    assert_eq!(coordinator.settle(failed).await.unwrap().outcomes[0].verdict, Verdict::Applied);
    let left: Vec<Lease> =
        [0, 1].into_iter().chain(3..20).chain(21..32).map(|at| leases[at].clone()).collect();
    settle_each(&coordinator, &left).await;
    let counts = kit::counts(&coordinator).await;
    assert_eq!((counts[&State::Completed], counts[&State::Cancelled]), (30, 1));
    assert_eq!(counts[&State::Pending], 1, "the failed one is tried again");
}

#[tokio::test]
async fn their_leases_run_out() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (coordinator, leases) = held(&server, Duration::from_secs(1)).await;
    let all_ready = || async {
        let counts = kit::counts(&coordinator).await;
        (counts[&State::Pending] == u64::from(COUNT)).then_some(())
    };
    wait_for_async(DEADLINE, "all to be ready again", all_ready).await.unwrap();
    assert_eq!(sharing(&server), 0);
    let again = claims(&coordinator, "second", LONG).await;
    assert_eq!(again.len(), leases.len());
    assert!(again.iter().all(|lease| lease.attempt == 2));
    settle_each(&coordinator, &again).await;
    is_over(&server, &coordinator).await;
}

#[tokio::test]
async fn limits_of_tenants_count_them() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (coordinator, leases) = held(&server, LONG).await;
    coordinator.register(kit::specs("two", COUNT)).await.unwrap();
    let policy = QueuePolicy { max_leased_per_tenant: Some(COUNT + 1), ..QueuePolicy::default() };
    let configure = Control::Configure("default".to_owned(), policy);
    coordinator.control(configure).await.unwrap();
    assert_eq!(claims(&coordinator, "second", LONG).await.len(), 1);
    settle_each(&coordinator, &leases).await;
    assert_eq!(claims(&coordinator, "third", LONG).await.len(), COUNT as usize - 1);
}

#[tokio::test]
async fn one_call_has_the_same_claim_twice() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr())).await;
    coordinator.register(kit::specs("one", COUNT)).await.unwrap();
    let claim = |number| {
        let claim = Some(kit::request("worker", &format!("claim-{}", number / 2), 1));
        coordinator.settle(SettleRequest { claim, ..SettleRequest::default() })
    };
    let replies = try_join_all((0..COUNT).map(claim)).await.unwrap();
    let leases: Vec<Lease> =
        replies.into_iter().flat_map(|reply| reply.claim.unwrap().leases).collect();
    assert_eq!(leases.len(), COUNT as usize);
    for two in leases.chunks(2) {
        assert_eq!(kit::reference(&two[0]), kit::reference(&two[1]));
    }
    assert_eq!(kit::counts(&coordinator).await[&State::Processing], u64::from(COUNT / 2));
}
