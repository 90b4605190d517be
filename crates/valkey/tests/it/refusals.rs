//! What a call finds on its way is kept also where the call is refused.

use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Control, Coordinator, QueuePolicy, Resolution, SettleRequest, State,
};
use sheaf_retry::Code;
use sheaf_testkit::Valkey;

use crate::kit::{self, builder, connect};

/// Batches in blocks, as the state of the coordinator counts them.
fn in_blocks(server: &Valkey) -> i64 {
    let script = "local m = {struct.unpack('<ddddddddddddd', redis.call('GET', KEYS[1]))} \
                  return m[13]";
    server.command(&["EVAL", script, "1", "{sheaf}:m"]).unwrap().integer().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_registration_that_takes_a_block_apart_counts_it() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr())).await;
    coordinator.register(kit::specs("a", 16)).await.unwrap();
    assert_eq!(in_blocks(&server), 16);
    let other = BatchSpec { rows: 99, ..kit::spec("a000003") };
    let refused = kit::code(coordinator.register(vec![other]).await);
    assert_eq!(refused, Code::AlreadyExists);
    assert_eq!(in_blocks(&server), 0, "none of them is in a block any more");
    let leases = coordinator.claim(kit::request("w", "r", 16)).await.unwrap().leases;
    assert_eq!(leases.len(), 16);
    coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
    let purged = coordinator.control(Control::Purge(Default::default())).await.unwrap();
    assert_eq!((purged.count, in_blocks(&server)), (16, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_outputs_that_take_a_block_apart_count_it() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr())).await;
    coordinator.register(kit::specs("a", 16)).await.unwrap();
    let leases = coordinator.claim(kit::request("w", "r", 16)).await.unwrap().leases;
    assert_eq!(in_blocks(&server), 16);
    let mut outcome = kit::outcome(&leases[0], Resolution::Completed);
    outcome.outputs = vec![BatchSpec { rows: 99, ..kit::spec("a000003") }];
    let settle = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
    assert_eq!(kit::code(coordinator.settle(settle).await), Code::AlreadyExists);
    assert_eq!(in_blocks(&server), 0);
    let reply = coordinator.settle(kit::settle(&leases, Resolution::Completed)).await.unwrap();
    assert!(reply.outcomes.iter().all(|one| one.state == Some(State::Completed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_take_nothing_is_not_woken_again_and_again() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinator = connect(builder(server.addr()).poll_interval(kit::LONG)).await;
    let policy = QueuePolicy { max_leased_per_tenant: Some(1), ..QueuePolicy::default() };
    coordinator.control(Control::Configure("default".to_owned(), policy)).await.unwrap();
    let of_tenant = |spec| BatchSpec { tenant: "x".to_owned(), ..spec };
    let specs = kit::specs("a", 2).into_iter().map(of_tenant).collect();
    coordinator.register(specs).await.unwrap();
    let held = coordinator.claim(kit::request("w", "one", 1)).await.unwrap().leases;
    assert_eq!(held.len(), 1);
    let calls = || server.command_stats().unwrap()["fcall"].calls;
    let before = calls();
    let request = |name: &str, wait| ClaimRequest { wait, ..kit::request("w", name, 1) };
    let nothing = coordinator.claim(request("two", Duration::from_millis(500))).await.unwrap();
    assert!(nothing.leases.is_empty());
    let took = calls() - before;
    assert!(took < 20, "{took} calls for a claim that waits");
    let next = coordinator.claim(request("three", kit::DEADLINE));
    let settled = coordinator.settle(kit::settle(&held, Resolution::Completed));
    let (next, settled) = tokio::join!(next, settled);
    settled.unwrap();
    assert_eq!(next.unwrap().leases.len(), 1, "woken by the end of the lease");
}
