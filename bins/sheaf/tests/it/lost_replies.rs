//! T3: a fleet whose replies get lost wastes nothing and doubles nothing.

use sheaf_coordinator::State;
use sheaf_testkit::{Call, CallProxy, Loss};

use crate::harness::{PATIENCE, Server};
use crate::remote::{Remote, assert_rows_once, sized, worker};

/// Replies of every call of a run lost, and the work goes on.
#[tokio::test(flavor = "multi_thread")]
async fn soak_lost_replies_have_one_effect_each() {
    let (batches, losses) = (sized(200, 5_000), sized(5, 50));
    let server = Server::start(&["--workers", "0"]);
    let address = server.ready.addr("flight").unwrap();
    let out = server.folder.path().join("out");
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
    let sink = format!("parquet:{}", out.display());
    // No lease ends in time to mend what a lost reply has broken.
    let words = ["--lease", "1h", "--sink", &sink];
    let (mut process, _) = worker(&workers.uri(), server.ready.url("flight").unwrap(), &words);
    Remote::at(&producers.uri()).put(0..batches).await;
    let remote = Remote::at(server.ready.url("flight").unwrap());
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
    assert_rows_once(&out, batches);
}
