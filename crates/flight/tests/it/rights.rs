//! Every call with every right, on the fast and on the plain path.

use std::time::Duration;

use arrow_flight::{
    Action, CancelFlightInfoRequest, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint,
    FlightInfo, HandshakeRequest, RenewFlightEndpointRequest, Ticket,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use sheaf_flight::{CallOptions, Error};
use sheaf_retry::{Code, Retryable as _};
use tonic::{Request, Status};

use crate::guarded::{Guarded, Intercepted};
use crate::support::{messages, stream_of, until};

/// Tokens by name, with the rights that are tried.
const TOKENS: [(&str, &str); 9] = [
    ("all", ""),
    ("reader", "allow=batches:r"),
    ("writer", "allow=batches:w"),
    ("changer", "allow=batches:x"),
    ("elsewhere", "allow=other:rwx"),
    ("tool-reader", "allow=tools:r"),
    ("tool-user", "allow=tools:x"),
    ("reader-of-all", "allow=*:r"),
    ("everywhere", "allow=*:rwx"),
];

/// A call, and what it needs: a namespace and a letter, nothing, or `*`.
const CALLS: [(&str, &str); 21] = [
    ("DoGet", "batches:r"),
    ("DoPut", "batches:w"),
    ("DoPut by command", "batches:w"),
    ("DoExchange", "batches:w"),
    ("GetFlightInfo", "batches:r"),
    ("GetSchema", "batches:r"),
    ("PollFlightInfo", "batches:r"),
    ("DoGet nowhere", "nowhere:r"),
    ("DoPut nowhere", "nowhere:w"),
    ("action Look", "tools:r"),
    ("action Turn", "tools:x"),
    ("action Echo", "*"),
    ("action CancelFlightInfo", "batches:x"),
    ("action RenewFlightEndpoint", "batches:r"),
    ("action HealthCheck", ""),
    ("ListActions", ""),
    ("Handshake", ""),
    ("/test.Described/Look", "tools:r"),
    ("/test.Described/Turn", "tools:x"),
    ("/test.Undescribed/Look", "*"),
    ("/nobody.Knows/Look", "*"),
];

fn path(namespace: &str) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![namespace.to_owned(), "a".to_owned()])
}

fn data(descriptor: FlightDescriptor) -> impl futures::Stream<Item = FlightData> {
    let mut descriptor = Some(descriptor);
    let sent = messages(1, 3).into_iter().map(move |message| FlightData {
        flight_descriptor: descriptor.take(),
        data_header: message.header.clone(),
        app_metadata: message.app_metadata.clone(),
        data_body: message.contiguous_body(),
    });
    stream::iter(sent.collect::<Vec<_>>())
}

fn action(name: &str) -> Action {
    let ticket = Some(Ticket { ticket: "batches/a".into() });
    let endpoint = FlightEndpoint { ticket, ..FlightEndpoint::default() };
    let body = match name {
        "CancelFlightInfo" => {
            let info = FlightInfo { endpoint: vec![endpoint], ..FlightInfo::default() };
            CancelFlightInfoRequest { info: Some(info) }.encode_to_vec()
        }
        "RenewFlightEndpoint" => {
            RenewFlightEndpointRequest { endpoint: Some(endpoint) }.encode_to_vec()
        }
        _ => Vec::new(),
    };
    Action { r#type: name.to_owned(), body: body.into() }
}

/// Calls another service with an empty message.
async fn other(channel: Intercepted, method: &'static str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(method);
    grpc.server_streaming(Request::new(()), path, codec).await.map(drop)
}

/// What comes within a time that is long enough on any machine.
async fn within<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
}

async fn whole<T>(answer: tonic::Response<tonic::Streaming<T>>) -> Result<(), Status> {
    answer.into_inner().try_for_each(|_| async { Ok(()) }).await
}

async fn call(server: &Guarded, token: &str, call: &'static str) -> Result<(), Status> {
    let mut raw = server.raw(token).await;
    let ticket = |text: &'static str| Ticket { ticket: text.into() };
    match call {
        "DoGet" => whole(raw.do_get(ticket("batches/a")).await?).await,
        "DoGet nowhere" => whole(raw.do_get(ticket("nowhere/a")).await?).await,
        "DoPut" => whole(raw.do_put(data(path("batches"))).await?).await,
        "DoPut nowhere" => whole(raw.do_put(data(path("nowhere"))).await?).await,
        "DoPut by command" => whole(raw.do_put(data(FlightDescriptor::new_cmd("a"))).await?).await,
        "DoExchange" => whole(raw.do_exchange(data(path("batches"))).await?).await,
        "GetFlightInfo" => raw.get_flight_info(path("batches")).await.map(drop),
        "GetSchema" => raw.get_schema(path("batches")).await.map(drop),
        "PollFlightInfo" => raw.poll_flight_info(path("batches")).await.map(drop),
        "ListActions" => whole(raw.list_actions(Empty {}).await?).await,
        "Handshake" => {
            let hello = stream::iter([HandshakeRequest::default()]);
            whole(raw.handshake(hello).await?).await
        }
        method if method.starts_with('/') => other(server.channel(token).await, method).await,
        name => {
            let name = name.strip_prefix("action ").unwrap();
            whole(raw.do_action(action(name)).await?).await
        }
    }
}

/// Whether the words after a token allow what a call needs, by the rules of the README.
fn allows(words: &str, need: &str) -> bool {
    let Some(list) = words.strip_prefix("allow=") else { return true };
    let parts: Vec<_> = list.split(',').map(|part| part.split_once(':').unwrap()).collect();
    let has = |namespace: &str, letter: &str| {
        let here = |name: &str| name == "*" || name == namespace;
        parts.iter().any(|(name, rights)| here(name) && rights.contains(letter))
    };
    match need.split_once(':') {
        Some((namespace, letter)) => has(namespace, letter),
        None if need == "*" => ["r", "w", "x"].iter().all(|letter| has("*", letter)),
        None => true,
    }
}

#[tokio::test]
async fn every_call_needs_its_right_on_both_paths() {
    for is_plain in [false, true] {
        let server = Guarded::new(&TOKENS, is_plain).await;
        server.memory.streams.lock().unwrap().insert("a".to_owned(), messages(1, 3));
        for (name, words) in TOKENS {
            for (what, need) in CALLS {
                let answer = call(&server, name, what).await.map_err(Error::from);
                let case = format!("{what} with {name}, plain {is_plain}");
                let error = match answer {
                    Ok(()) => {
                        assert!(allows(words, need), "{case} is let in");
                        continue;
                    }
                    Err(error) => error,
                };
                if allows(words, need) {
                    assert_ne!(error.code(), Code::PermissionDenied, "{case}: {error}");
                    continue;
                }
                assert_eq!(error.code(), Code::PermissionDenied, "{case}: {error}");
                let (namespace, letter) = need.split_once(':').unwrap_or(("*", ""));
                for part in [
                    format!("the token {name:?}"),
                    format!("namespace {namespace:?}"),
                    format!("lacks {letter}"),
                    words.to_owned(),
                ] {
                    assert!(error.message().contains(&part), "{case}: {part} in {error}");
                }
            }
        }
        let denied = server
            .metric("sheaf_flight_requests_total{method=\"DoPut\",code=\"permission_denied\"}");
        assert!(denied > 0, "refusals are counted");
    }
}

#[tokio::test]
async fn a_refused_put_reaches_no_handler() {
    let server = Guarded::new(&TOKENS, false).await;
    let ours = server.ours("reader");
    let options = CallOptions::default();
    let error = ours.put(&["batches", "x"], &options, stream_of(messages(9, 1_000))).await;
    assert_eq!(error.unwrap_err().code(), Code::PermissionDenied);
    assert!(server.memory.streams.lock().unwrap().is_empty());
    assert!(server.memory.broken.lock().unwrap().is_empty());
}

#[tokio::test]
async fn flights_are_listed_of_namespaces_that_may_be_read() {
    let server = Guarded::new(&TOKENS, false).await;
    let options = CallOptions::default();
    for namespace in ["batches", "other"] {
        let ours = server.ours("all");
        ours.put(&[namespace, "a"], &options, stream_of(messages(1, 1))).await.unwrap();
    }
    for (name, expected) in [
        ("all", vec!["batches", "other"]),
        ("reader", vec!["batches"]),
        ("writer", vec![]),
        ("elsewhere", vec!["other"]),
        ("reader-of-all", vec!["batches", "other"]),
    ] {
        let listed = server.raw(name).await.list_flights(Criteria::default()).await.unwrap();
        let listed: Vec<FlightInfo> = listed.into_inner().try_collect().await.unwrap();
        let found: Vec<String> =
            listed.into_iter().map(|info| info.flight_descriptor.unwrap().path.remove(0)).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn a_right_taken_back_ends_the_calls_that_needed_it_and_no_others() {
    for is_plain in [false, true] {
        let server = Guarded::new(&[("a", "allow=batches:rw")], is_plain).await;
        let options = CallOptions::default();
        let mut reading = server.ours("a").get("batches/endless", &options).await.unwrap();
        reading.next().await.unwrap().unwrap();
        let first = messages(1, 1).remove(0);
        let silent = stream::iter([Ok(first)]).chain(stream::pending()).boxed();
        let ours = server.ours("a");
        let writing =
            tokio::spawn(async move { ours.put(&["batches", "x"], &options, silent).await });
        until("the put has come", || server.metric("sheaf_flight_active_calls") == 2).await;
        until("its schema is read", || server.metric("sheaf_flight_received_bytes_total") > 0)
            .await;
        server.exchange(&[("a", "allow=batches:r")]);
        let error = within(writing).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        assert!(error.message().contains("lacks w"), "{error}");
        reading.next().await.unwrap().unwrap();
        let put = async || {
            let (ours, sent) = (server.ours("a"), stream_of(messages(1, 1)));
            ours.put(&["batches", "x"], &CallOptions::default(), sent).await
        };
        assert_eq!(put().await.unwrap_err().code(), Code::PermissionDenied);
        // And given again, to the next call.
        server.exchange(&[("a", "allow=batches:w")]);
        let mut ends = reading.filter_map(|item| async { item.err() }).boxed();
        let error = within(ends.next()).await.unwrap();
        assert_eq!(error.code(), Code::PermissionDenied, "{error}");
        put().await.unwrap();
    }
}

#[tokio::test]
async fn calls_of_one_token_are_limited() {
    let server = Guarded::new(&[("few", "calls=2"), ("many", "")], false).await;
    let options = || CallOptions::default().retry(sheaf_retry::RetryPolicy::none());
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = server.ours("few").get("batches/endless", &options()).await.unwrap();
        stream.next().await.unwrap().unwrap();
        held.push(stream);
    }
    let error = server.ours("few").action("HealthCheck", Bytes::new(), &options()).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    assert!(error.message().contains("2 calls") && error.message().contains("calls="), "{error}");
    assert!(error.retry_after().is_some());
    assert_eq!(server.metric("sheaf_flight_rejected_total{limit=\"calls_per_token\"}"), 1);
    server.ours("many").action("HealthCheck", Bytes::new(), &options()).await.unwrap();
    drop(held);
    until("the streams are gone", || server.metric("sheaf_flight_active_calls") == 0).await;
    server.ours("few").action("HealthCheck", Bytes::new(), &options()).await.unwrap();
}
