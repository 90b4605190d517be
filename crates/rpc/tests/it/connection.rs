//! Connections break, servers restart, clients go away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_coordinator::{
    Coordinator, LeaseRef, Outcome, Resolution, SettleRequest, State, Verdict,
};
use sheaf_retry::{Code, Retryable as _};
use sheaf_testkit::{Fault, FaultProxy};

use crate::harness::{
    Spy, batch, claim, embedded, eventually, id, once, patient, rpc, serve, serve_on, spec,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_gives_the_same_leases_again() {
    let coordinator = embedded().await;
    let server = serve(Arc::clone(&coordinator)).await;
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = rpc(&proxy.uri(), patient());
    client.register(vec![spec("a"), spec("b")]).await.unwrap();
    proxy.set(Fault::AnswersLost);
    let claiming = tokio::spawn({
        let client = client.clone();
        async move { client.claim(claim("one", 1)).await }
    });
    eventually("the server never saw the claim", || async {
        batch(coordinator.as_ref(), "a").await.state == State::Processing
    })
    .await;
    let fence = batch(coordinator.as_ref(), "a").await.last_fence;
    // The first answer is gone with its connection.
    proxy.set(Fault::None);
    let leases = claiming.await.unwrap().unwrap().leases;
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].spec.id.clone(), leases[0].fence), (id("a"), fence));
    assert_eq!(batch(coordinator.as_ref(), "a").await.attempts, 1);
    assert_eq!(batch(coordinator.as_ref(), "b").await.state, State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_settle_whose_answer_is_lost_counts_once() {
    let coordinator = embedded().await;
    let server = serve(Arc::clone(&coordinator)).await;
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = rpc(&proxy.uri(), patient());
    client.register(vec![spec("a")]).await.unwrap();
    let lease = client.claim(claim("one", 1)).await.unwrap().leases.remove(0);
    proxy.set(Fault::AnswersLost);
    let outcome = Outcome {
        lease: LeaseRef { id: id("a"), fence: lease.fence },
        resolution: Resolution::Completed,
        error: None,
        outputs: vec![spec("a.out")],
        delay: Duration::ZERO,
    };
    let request = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
    let settling = tokio::spawn({
        let client = client.clone();
        async move { client.settle(request).await }
    });
    eventually("the server never saw the settle", || async {
        batch(coordinator.as_ref(), "a").await.state == State::Completed
    })
    .await;
    proxy.set(Fault::None);
    let reply = settling.await.unwrap().unwrap();
    assert_eq!(reply.outcomes[0].verdict, Verdict::AlreadyDone);
    assert_eq!(batch(coordinator.as_ref(), "a").await.outputs, [id("a.out")]);
    assert_eq!(batch(coordinator.as_ref(), "a.out").await.state, State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_claim_survives_a_broken_connection() {
    let spy = Spy::new(embedded().await);
    let claims = spy.claims();
    let server = serve(Arc::new(spy)).await;
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let client = rpc(&proxy.uri(), patient());
    let mut request = claim("one", 1);
    request.wait = Duration::from_secs(30);
    let claiming = tokio::spawn({
        let client = client.clone();
        async move { client.claim(request).await }
    });
    eventually("no claim waits", || async { claims.load(Ordering::SeqCst) == 1 }).await;
    proxy.set(Fault::Cut);
    eventually("the broken claim still waits", || async { claims.load(Ordering::SeqCst) == 0 })
        .await;
    proxy.set(Fault::None);
    eventually("the claim did not come back", || async { claims.load(Ordering::SeqCst) == 1 })
        .await;
    client.register(vec![spec("late")]).await.unwrap();
    let leases = claiming.await.unwrap().unwrap().leases;
    assert_eq!(leases[0].spec.id, id("late"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_while_it_waits_takes_nothing() {
    let spy = Spy::new(embedded().await);
    let claims = spy.claims();
    let server = serve(Arc::new(spy)).await;
    let client = rpc(&server.uri(), once());
    let mut request = claim("gone", 1);
    request.wait = Duration::from_secs(30);
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.claim(request).await }
    });
    eventually("no claim waits", || async { claims.load(Ordering::SeqCst) == 1 }).await;
    waiting.abort();
    eventually("the claim outlives its caller", || async { claims.load(Ordering::SeqCst) == 0 })
        .await;
    client.register(vec![spec("a")]).await.unwrap();
    assert_eq!(batch(&client, "a").await.state, State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_is_found_again() {
    let coordinator = embedded().await;
    let server = serve(Arc::clone(&coordinator)).await;
    let address = server.local_addr().to_string();
    let client = rpc(&server.uri(), patient());
    client.register(vec![spec("before")]).await.unwrap();
    server.drain(Duration::ZERO).await;
    let registering = tokio::spawn({
        let client = client.clone();
        async move { client.register(vec![spec("during")]).await }
    });
    let server = serve_on(&address, coordinator).await;
    assert!(registering.await.unwrap().unwrap()[0].created);
    assert_eq!(batch(&client, "before").await.state, State::Pending);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_unavailable() {
    let server = serve(embedded().await).await;
    let uri = server.uri();
    server.drain(Duration::ZERO).await;
    let error = rpc(&uri, once()).claim(claim("one", 1)).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(error.to_string().contains(&uri), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_come_is_a_deadline() {
    let server = serve(embedded().await).await;
    let proxy = FaultProxy::start(server.local_addr()).unwrap();
    let mut options = once();
    options.deadline = Duration::from_millis(50);
    let client = rpc(&proxy.uri(), options);
    client.register(vec![spec("a")]).await.unwrap();
    proxy.set(Fault::AnswersLost);
    let error = client.register(vec![spec("b")]).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
}
