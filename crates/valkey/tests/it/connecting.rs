//! What is refused when a coordinator connects, and in which words.

use std::time::Duration;

use sheaf_coordinator::{ClaimRequest, Coordinator as _};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::{Flavour, Valkey, free_port, wait_until_async};
use sheaf_valkey::Builder;

use crate::kit::{self, builder, connect};

/// Code and words of a refusal.
async fn refused(builder: Builder) -> (Code, String) {
    let error = builder.connect(SystemClock::shared()).await.unwrap_err();
    (error.code(), kit::text(&error))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_by_itself_is_refused() {
    for limit in ["0", "100mb"] {
        let args = ["--maxmemory-policy", "allkeys-lru", "--maxmemory", limit];
        let Some(server) = Valkey::start(&args).unwrap() else { return };
        let (code, text) = refused(builder(server.addr())).await;
        assert_eq!(code, Code::FailedPrecondition);
        assert!(text.contains("allkeys-lru") && text.contains("noeviction"), "{text}");
        // Repaired as it says, it is taken.
        server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
        kit::quick_core(&connect(builder(server.addr())).await, "repaired").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_refused() {
    let Some(primary) = Valkey::start(&[]).unwrap() else { return };
    let mut replica = Valkey::start_replica_of(&primary, &[]).unwrap();
    let (code, text) = refused(builder(replica.addr())).await;
    assert_eq!(code, Code::FailedPrecondition, "{text}");
    assert!(text.contains("it is a replica; name its primary"), "{text}");
    replica.promote().unwrap();
    kit::quick_core(&connect(builder(replica.addr())).await, "promoted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_password_or_a_wrong_one_is_not_let_in() {
    for flavour in Flavour::ALL {
        let options = Valkey::options(flavour).args(&["--requirepass", "right"]);
        let Some(server) = options.start().unwrap() else { continue };
        let clock = SystemClock::shared();
        for (name, address) in [
            ("none", builder(server.addr())),
            ("wrong", builder(server.addr()).password("wrong-one")),
            ("unknown", builder(server.addr()).username("nobody").password("right")),
        ] {
            let start = clock.elapsed();
            let (code, text) = refused(address).await;
            assert_eq!(code, Code::Unauthenticated, "{name}: {text}");
            assert!(!text.contains("wrong-one"), "{text}");
            let took = clock.elapsed() - start;
            assert!(took < Duration::from_secs(3), "{name}: not told for {took:?}");
        }
        let right = format!("valkey://:right@{}", server.addr());
        kit::quick_core(&connect(builder(right)).await, "let-in").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_where_nobody_listens_is_told_soon() {
    let addr = free_port().unwrap().release();
    let clock = SystemClock::shared();
    let start = clock.elapsed();
    let (code, text) = refused(builder(addr).timeout(Duration::from_secs(2))).await;
    let took = clock.elapsed() - start;
    assert_eq!(code, Code::Unavailable, "{text}");
    assert!(text.contains(&addr.to_string()), "{text}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// It accepts connections, and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_told_soon() {
    let Some(mut server) = Valkey::start(&[]).unwrap() else { return };
    let addr = server.addr();
    server.process().pause().unwrap();
    let clock = SystemClock::shared();
    let start = clock.elapsed();
    let (code, text) = refused(builder(addr).timeout(Duration::from_secs(1))).await;
    let took = clock.elapsed() - start;
    server.process().resume().unwrap();
    assert_eq!(code, Code::Unavailable, "{text}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    kit::quick_core(&connect(builder(addr)).await, "resumed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_what_made_them() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let connections = || {
        let info = server.info("clients").unwrap();
        info["connected_clients"].parse::<u32>().unwrap()
    };
    let before = connections();
    for _ in 0..5 {
        let coordinator = kit::connect(kit::builder(server.addr())).await;
        let claim = kit::request("w", "one", 1);
        let waiting = ClaimRequest { wait: Duration::from_secs(30), ..claim };
        let listening = coordinator.claim(waiting);
        // One that waits has a connection of its own that listens.
        let heard = tokio::time::timeout(Duration::from_millis(200), listening).await;
        assert!(heard.is_err());
        // Nobody calls `close`.
        drop(coordinator);
        drop(kit::builder(server.addr()).endpoint().await.unwrap());
    }
    let ended = async || connections() <= before;
    wait_until_async(kit::DEADLINE, "all connections are closed", ended).await.unwrap();
}
