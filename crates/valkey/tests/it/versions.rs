//! T12: libraries of two versions on one server.

use std::sync::Arc;

use sheaf_coordinator::{ClaimRequest, Coordinator as _, Resolution, Verdict};
use sheaf_testkit::Valkey;

use crate::kit::{
    self, DEADLINE, LONG, Traffic, assert_fences_grow, assert_once, builder, connect, quick_core,
    sized,
};

/// What is loaded.
fn libraries(server: &Valkey) -> Vec<String> {
    let list = server.command(&["FUNCTION", "LIST"]).unwrap();
    let names = list.items().iter().filter_map(|library| library.field("library_name")?.text());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t12_two_versions_work_on_the_same_batches() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let one = connect(builder(server.addr()).poll_interval(DEADLINE)).await;
    // Another text, and so another library with functions of its own.
    let other = builder(server.addr()).poll_interval(DEADLINE);
    let two = connect(other.edit_scripts(|part| format!("{part}do end\n"))).await;
    let both = libraries(&server);
    assert_eq!(both.len(), 2, "{both:?}");

    // What one registers wakes the other, which has it until the end.
    let waiting = {
        let (two, wait) = (Arc::clone(&two), DEADLINE);
        let request = kit::request("two", "two-waits", 1);
        let request = ClaimRequest { wait, ..request };
        tokio::spawn(async move { two.claim(request).await.unwrap() })
    };
    one.register(vec![kit::spec("crossing")]).await.unwrap();
    let claim = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
    assert_eq!(claim.leases.len(), 1);
    // A claim that is sent again by way of the other has the same answer.
    let again = one.claim(kit::request("two", "two-waits", 1)).await.unwrap();
    assert_eq!(again.leases, claim.leases);
    let done = kit::settle(&claim.leases, Resolution::Completed);
    let reply = one.settle(done).await.unwrap();
    assert_eq!(reply.outcomes[0].verdict, Verdict::Applied);
    quick_core(&two, "by-two").await;
    quick_core(&one, "by-one").await;

    let coordinators = [Arc::clone(&one), Arc::clone(&two)];
    let mut traffic = Traffic::start("mixed", &coordinators, LONG);
    // Both register.
    traffic.join(&[two, one], LONG);
    for _ in 0..sized(5, 500) {
        traffic.goes_on(100, DEADLINE).await;
        // A rolling deploy goes through this, too.
        server.command(&["FUNCTION", "FLUSH", "SYNC"]).unwrap();
    }
    traffic.goes_on(100, DEADLINE).await;
    let seen = traffic.finish(0).await;
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_once(&coordinators[0], &seen).await;
    assert_fences_grow(&seen.fences);
    assert_eq!(libraries(&server), both);
}
