//! Events over the wire.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_coordinator::embedded::Config;
use sheaf_coordinator::{BatchSpec, Coordinator, Event, State, WatchFilter};
use sheaf_proto::coordinator::v1 as proto;
use sheaf_proto::coordinator::v1::coordinator_client::CoordinatorClient;
use sheaf_rpc::{CoordinatorService, Waits};
use tonic::transport::Endpoint;

use crate::harness::{
    embedded, embedded_with, id, json, once, patient, rpc, serve, serve_on, spec,
};

async fn next(events: &mut (impl futures::Stream<Item = Event> + Unpin)) -> Event {
    tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .expect("no event within 20 s")
        .expect("the events ended")
}

fn changed(event: Event) -> (String, Option<State>) {
    match event {
        Event::Changed(change) => (change.id.to_string(), change.to),
        Event::Missed(count) => panic!("missed {count}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed() {
    let coordinator = embedded_with(Config { watch_buffer: 16, ..Config::memory() }).await;
    let server = serve(Arc::clone(&coordinator)).await;
    // A narrow window: what is not read soon fills the way from end to end.
    let endpoint = Endpoint::from_shared(format!("http://{}", server.local_addr())).unwrap();
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let mut client = CoordinatorClient::new(endpoint.connect().await.unwrap());
    let mut events = client.watch(proto::WatchRequest::default()).await.unwrap().into_inner();
    let queue = "q".repeat(250);
    let name = |n: u64| format!("{n:0>190}");
    let specs = |from: u64, count: u64| -> Vec<BatchSpec> {
        (from..from + count).map(|n| BatchSpec { queue: queue.clone(), ..spec(&name(n)) }).collect()
    };
    let mut registered = 0;
    while registered < 20_000 {
        coordinator.register(specs(registered, 1_000)).await.unwrap();
        registered += 1_000;
    }
    let (mut seen, mut missed) = (0_u64, 0_u64);
    let mut last = None;
    while seen + missed < registered {
        match tokio::time::timeout(Duration::from_millis(500), events.message()).await {
            Ok(event) => {
                let event = event.unwrap().expect("the events ended");
                missed += event.missed;
                if event.missed == 0 {
                    seen += 1;
                    assert!(last.as_ref() < Some(&event.id), "out of order");
                    last = Some(event.id);
                }
            }
            // A gap is told before the next event: make one.
            Err(_) => {
                coordinator.register(specs(registered, 1)).await.unwrap();
                registered += 1;
                assert!(registered < 20_100, "{seen} seen, {missed} missed of {registered}");
            }
        }
    }
    assert_eq!(seen + missed, registered);
    assert!(missed > 0 && seen > 0, "{seen} seen, {missed} missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_after_a_restart_and_says_that_there_is_a_gap() {
    let coordinator = embedded().await;
    let server = serve(Arc::clone(&coordinator)).await;
    let address = server.local_addr().to_string();
    let clients: [Arc<dyn Coordinator>; 2] =
        [Arc::new(rpc(&server.uri(), patient())), Arc::new(json(&server.uri(), patient()))];
    let mut watches = Vec::new();
    for client in &clients {
        watches.push(client.watch(WatchFilter::default()).await.unwrap());
    }
    coordinator.register(vec![spec("a")]).await.unwrap();
    for watch in &mut watches {
        assert_eq!(changed(next(watch).await), ("a".to_owned(), Some(State::Pending)));
    }
    server.drain(Duration::ZERO).await;
    let _server = serve_on(&address, Arc::clone(&coordinator)).await;
    for (index, watch) in watches.iter_mut().enumerate() {
        assert_eq!(next(watch).await, Event::Missed(1), "client {index}");
        let batch = format!("after-{index}");
        coordinator.register(vec![spec(&batch)]).await.unwrap();
        loop {
            if changed(next(watch).await).0 == batch {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_holds_through_both_ways() {
    let coordinator = embedded().await;
    let server = serve(Arc::clone(&coordinator)).await;
    let clients: [Arc<dyn Coordinator>; 2] =
        [Arc::new(rpc(&server.uri(), once())), Arc::new(json(&server.uri(), once()))];
    for (index, client) in clients.iter().enumerate() {
        let (one, other) = (format!("one-{index}"), format!("other-{index}"));
        let filter = WatchFilter { ids: vec![id(&one)], ..WatchFilter::default() };
        let mut events = client.watch(filter).await.unwrap();
        client.register(vec![spec(&other), spec(&one)]).await.unwrap();
        assert_eq!(changed(next(&mut events).await).0, one);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_waits_end_claims_and_streams_at_once() {
    use sheaf_proto::coordinator::v1::coordinator_server::Coordinator as _;
    let waits = Waits::new();
    let service = CoordinatorService::new(embedded().await).with_waits(waits.clone());
    let mut events = service
        .watch(tonic::Request::new(proto::WatchRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let mut request = proto::ClaimRequest::from(&crate::harness::claim("one", 1));
    request.wait_ms = 60_000;
    let claim = service.claim(tonic::Request::new(request));
    let ending = async { waits.end() };
    let (claim, ()) = tokio::join!(claim, ending);
    for status in [claim.unwrap_err(), events.next().await.unwrap().unwrap_err()] {
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.message().starts_with("draining: "), "{status:?}");
    }
    assert!(events.next().await.is_none());
}
