//! T3: a fleet whose replies get lost wastes nothing and doubles nothing.

use sheaf_coordinator::State;
use sheaf_testkit::{Call, CallProxy, Loss};

use crate::backend::Backend;
use crate::harness::PATIENCE;
use crate::remote::{Remote, assert_rows_once, sized, worker};

/// What workers lose of what a server says: its coordinator is behind it.
async fn lost_replies(backend: Backend) {
    let (batches, losses) = (sized(200, 5_000), sized(5, 50));
    let Some(backed) = backend.start(&[]) else { return };
    let address = backed.server.ready.addr("flight").unwrap();
    let (producers, workers) =
        (CallProxy::start(address).unwrap(), CallProxy::start(address).unwrap());
    let faults = [
        ("put", producers.lose_replies(Call::method("DoPut"), losses, Loss::Connection)),
        ("claim", workers.lose_replies(Call::method("Claim"), 3, Loss::Connection)),
        ("settle", workers.lose_replies(Call::method("Settle"), losses, Loss::Connection)),
        ("settle", workers.lose_replies(Call::method("Settle"), losses, Loss::Reset)),
        ("extend", workers.lose_replies(Call::method("Extend"), losses, Loss::Reset)),
        ("extend", workers.lose_replies(Call::method("Extend"), losses, Loss::Connection)),
    ];
    let sink = backed.sink();
    // No lease ends in time to mend what a lost reply has broken.
    let words = ["--lease", "1h", "--sink", &sink];
    let (mut process, _) = worker(&workers.uri(), backed.flight(), &words);
    Remote::at(&producers.uri()).put(0..batches).await;
    let remote = backed.remote();
    remote.completes(batches).await;
    for (call, fault) in &faults {
        let wanted = if *call == "claim" { 3 } else { losses };
        assert_eq!(fault.hits(), wanted, "replies of {call} that were lost");
    }
    let all = remote.list(State::Completed).await;
    assert_eq!(all.len() as u64, batches, "one registration each");
    for batch in &all {
        assert_eq!((batch.attempts, batch.lost_leases), (1, 0), "one attempt each: {batch:?}");
    }
    assert!(process.try_exit().unwrap().is_none(), "no restart");
    assert_eq!(process.terminate(PATIENCE).unwrap().code(), Some(0), "{}", process.stderr());
    assert_rows_once(&backed.out(), batches);
}

/// Replies of every call of a run lost, and the work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn soak_lost_replies_have_one_effect_each() {
    lost_replies(Backend::Embedded).await;
}

/// Replies of every call to a server on a Valkey lost, and the work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_lost_replies_have_one_effect_each() {
    lost_replies(Backend::Valkey).await;
}
