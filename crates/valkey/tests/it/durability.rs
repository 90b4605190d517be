//! What an `Ok` is worth.

use std::time::Duration;

use sheaf_coordinator::{Coordinator, Resolution, State, Verdict};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::{Flavour, Valkey};
use sheaf_valkey::{Builder, Durability};

use crate::kit::{self, DURABLE, builder, connect};

async fn refused(builder: Builder) -> String {
    let error = builder.connect(SystemClock::shared()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    kit::text(&error)
}

fn replicated(server: &Valkey) -> Builder {
    let builder = builder(server.addr()).durability(Durability::Replicated);
    builder.timeout(Duration::from_secs(3))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicated_needs_a_replica() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let text = refused(replicated(&server)).await;
    assert!(text.contains("needs a replica, and none is connected"), "{text}");
    let _replica = Valkey::start_replica_of(&server, &[]).unwrap();
    kit::quick_core(&connect(replicated(&server)).await, "replicated").await;
}

/// While the replica hears nothing no call is acknowledged, not even the
/// second time, when it has nothing more to write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_replica_has_is_not_acknowledged() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let mut replica = Valkey::start_replica_of(&server, &[]).unwrap();
    let coordinator = connect(replicated(&server)).await;
    coordinator.register(kit::specs("before", 2)).await.unwrap();
    let leases = coordinator.claim(kit::request("worker", "claim", 1)).await.unwrap().leases;
    replica.process().pause().unwrap();
    for _ in 0..5 {
        let error = coordinator.register(vec![kit::spec("alone")]).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{}", kit::text(&error));
        assert!(error.to_string().contains("no replica has it yet"), "{error}");
    }
    let done = kit::settle(&leases, Resolution::Completed);
    assert_eq!(kit::code(coordinator.settle(done.clone()).await), Code::Unavailable);
    assert_eq!(kit::code(coordinator.settle(done.clone()).await), Code::Unavailable);
    replica.process().resume().unwrap();
    let register = || coordinator.register(vec![kit::spec("alone")]);
    let registered = kit::again(register, drop).await;
    assert_eq!((registered[0].state, registered[0].created), (State::Pending, false));
    let reply = kit::again(|| coordinator.settle(done.clone()), drop).await;
    assert_eq!(reply.outcomes[0].verdict, Verdict::AlreadyDone);
    // What was acknowledged is there when the replica takes over.
    drop(server);
    replica.promote().unwrap();
    let after = connect(builder(replica.addr())).await;
    let counts = kit::counts(&after).await;
    assert_eq!((counts[&State::Completed], counts[&State::Pending]), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsynced_needs_an_append_only_file_and_waits_for_it() {
    for flavour in Flavour::ALL {
        let fsynced = |server: &Valkey| builder(server.addr()).durability(Durability::Fsynced);
        let Some(server) = Valkey::options(flavour).start().unwrap() else { continue };
        let command = server.command(&["COMMAND", "INFO", "WAITAOF"]).unwrap();
        let text = refused(fsynced(&server)).await;
        if command.items()[0].items().is_empty() {
            assert!(text.contains("WAITAOF"), "{flavour:?}: {text}");
            continue;
        }
        assert!(text.contains("`appendonly yes`"), "{text}");

        let args = ["--appendonly", "yes", "--appendfsync", "everysec"];
        let server = Valkey::options(flavour).args(&args).start().unwrap().unwrap();
        let coordinator = connect(fsynced(&server)).await;
        kit::quick_core(&coordinator, "quick").await;

        let always = Valkey::options(flavour).args(&DURABLE).start().unwrap().unwrap();
        kit::quick_core(&connect(fsynced(&always)).await, "quick").await;
        // Where nothing is written to disk, nothing is acknowledged.
        server.command(&["CONFIG", "SET", "appendfsync", "no"]).unwrap();
        let late = builder(server.addr()).durability(Durability::Fsynced);
        let late = connect(late.timeout(Duration::from_millis(500))).await;
        let error = late.register(vec![kit::spec("unsynced")]).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        server.command(&["CONFIG", "SET", "appendfsync", "always"]).unwrap();
        let register = || late.register(vec![kit::spec("unsynced")]);
        assert!(!kit::again(register, drop).await[0].created);
    }
}
