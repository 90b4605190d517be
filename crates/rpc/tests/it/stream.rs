//! Claims by credit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sheaf_coordinator::{Answer, Coordinator, Query, State};
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::coordinator::v1::coordinator_client::CoordinatorClient;
use sheaf_retry::{Code, Retryable as _};

use crate::harness::{Spy, claim, embedded, eventually, once, rpc, serve, spec};

async fn processing(coordinator: &dyn Coordinator) -> u64 {
    match coordinator.query(Query::Stats(None)).await.unwrap() {
        Answer::Stats(queues) => queues.iter().map(|queue| queue.counts[&State::Processing]).sum(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_comes_than_there_are_credits() {
    let coordinator = embedded().await;
    let spy = Spy::new(Arc::clone(&coordinator));
    let claims = spy.claims();
    let server = serve(Arc::new(spy)).await;
    let client = rpc(&server.uri(), once());
    client.register((0..6).map(|n| spec(&format!("b{n}"))).collect()).await.unwrap();
    let mut stream = client.claim_stream(claim("s", 10), 2).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().leases.len(), 2);
    // Two were granted; while nobody grants more, nothing more is claimed.
    assert_eq!(processing(coordinator.as_ref()).await, 2);
    assert_eq!(claims.load(Ordering::SeqCst), 0);
    stream.grant(1).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().leases.len(), 1);
    assert_eq!(processing(coordinator.as_ref()).await, 3);
    // More credits than work: the rest comes, and the next waits for work.
    stream.grant(4).await.unwrap();
    stream.finish();
    assert_eq!(stream.next().await.unwrap().unwrap().leases.len(), 3);
    client.register(vec![spec("late")]).await.unwrap();
    let last = stream.next().await.unwrap().unwrap();
    assert_eq!(last.leases[0].spec.id.as_str(), "late");
    assert_eq!(stream.next().await.unwrap(), None);
    assert_eq!(stream.grant(1).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_opened_again_begins_with_what_still_stands() {
    let server = serve(embedded().await).await;
    let client = rpc(&server.uri(), once());
    client.register(vec![spec("a"), spec("b")]).await.unwrap();
    let mut first = client.claim_stream(claim("s", 1), 1).await.unwrap();
    let lease = first.next().await.unwrap().unwrap().leases.remove(0);
    drop(first);
    let mut second = client.claim_stream(claim("s", 1), 2).await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap().leases[0], lease);
    let other = second.next().await.unwrap().unwrap().leases.remove(0);
    assert_eq!(other.spec.id.as_str(), "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_claims_nothing_more() {
    let spy = Spy::new(embedded().await);
    let claims = spy.claims();
    let server = serve(Arc::new(spy)).await;
    let client = rpc(&server.uri(), once());
    let stream = client.claim_stream(claim("s", 1), 5).await.unwrap();
    eventually("no claim waits", || async { claims.load(Ordering::SeqCst) == 1 }).await;
    drop(stream);
    eventually("the claim outlives its stream", || async { claims.load(Ordering::SeqCst) == 0 })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_out_of_order_are_refused() {
    let server = serve(embedded().await).await;
    let endpoint = format!("http://{}", server.local_addr());
    let mut client = CoordinatorClient::connect(endpoint).await.unwrap();
    let request = || Some(proto::ClaimRequest::from(&claim("s", 1)));
    let with = |change: fn(&mut proto::ClaimRequest)| {
        let mut request = proto::ClaimRequest::from(&claim("s", 1));
        change(&mut request);
        proto::ClaimCredit { request: Some(request), credits: 1 }
    };
    let cases = [
        (vec![proto::ClaimCredit { request: None, credits: 1 }], "has to bring the request"),
        (
            vec![
                proto::ClaimCredit { request: request(), credits: 0 },
                proto::ClaimCredit { request: request(), credits: 1 },
            ],
            "cannot be changed",
        ),
        (vec![with(|request| request.ids = vec!["a".to_owned()])], "use Claim"),
        (vec![with(|request| request.max = 0)], "max"),
        (vec![with(|request| request.request_id.clear())], "request_id"),
        (
            vec![proto::ClaimCredit { request: request(), credits: 65_537 }],
            "over the limit of 65536",
        ),
    ];
    for (messages, expected) in cases {
        let answer = client.claim_stream(tokio_stream::iter(messages)).await.unwrap();
        let mut claims = answer.into_inner();
        let next = claims.message();
        let error = tokio::time::timeout(Duration::from_secs(10), next).await.unwrap().unwrap_err();
        assert!(error.message().contains(expected), "{error:?}");
    }
}
