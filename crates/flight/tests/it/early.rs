//! Calls that are refused, or end, before they cost much.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{
    Action, CancelFlightInfoRequest, Criteria, FlightData, FlightDescriptor, FlightEndpoint,
    FlightInfo, RenewFlightEndpointRequest, Ticket,
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::Message as _;
use sheaf_flight::{
    AnswerHeaders, CallContext, CallOptions, Error, Exposure, FlightRouter, Limits, Listener,
    Middleware, Server,
};
use sheaf_retry::{Code, ManualClock, RetryPolicy, Retryable as _, Timestamp};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service as _, ServiceExt as _};

use crate::guarded::{AuditLog, Guarded};
use crate::support::{World, until};

fn rejected(world: &World, limit: &str) -> u64 {
    world.metric(&format!("sheaf_flight_rejected_total{{limit=\"{limit}\"}}"))
}

fn code(status: Status) -> Code {
    Error::from(status).code()
}

/// A path of so many elements of nothing, two bytes each on the wire.
fn nothings(elements: usize) -> FlightDescriptor {
    FlightDescriptor::new_path(vec![String::new(); elements])
}

/// A request of which the caller sends the bytes itself.
fn by_hand(path: &str) -> (mpsc::Sender<Bytes>, http::Request<Body>) {
    let (sender, bytes) = mpsc::channel(8);
    let frames = ReceiverStream::new(bytes).map(|piece| Ok::<_, Status>(Frame::data(piece)));
    let request = http::Request::post(path)
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(StreamBody::new(frames)))
        .unwrap();
    (sender, request)
}

#[tokio::test]
async fn requests_that_move_no_data_are_short() {
    for world in [World::new().await, World::plain().await] {
        let mut client = world.raw().await;
        let much = || nothings(40_000);
        let criteria = Criteria { expression: vec![0; 80_000].into() };
        let mut refused = vec![
            client.get_flight_info(much()).await.unwrap_err(),
            client.get_schema(much()).await.unwrap_err(),
            client.poll_flight_info(much()).await.unwrap_err(),
            client.list_flights(criteria).await.err().unwrap(),
        ];
        refused.push(client.do_get(Ticket::new(vec![b'x'; 80_000])).await.err().unwrap());
        for status in refused {
            assert_eq!(code(status.clone()), Code::LimitExceeded, "{status}");
        }
        assert!(rejected(&world, "message") >= 4);
        let first = FlightData { flight_descriptor: Some(nothings(30_000)), ..Default::default() };
        let status = client.do_put(stream::iter([first])).await.err().unwrap();
        assert_eq!(code(status.clone()), Code::LimitExceeded, "{status}");
        // Less than that is for the router to judge.
        let status = client.get_flight_info(nothings(17)).await.unwrap_err();
        assert!(status.message().contains("17 elements"), "{status}");
    }
    let world = World::new().await;
    let mut health = HealthClient::new(world.channel().await);
    let request = HealthCheckRequest { service: "x".repeat(80_000) };
    assert_eq!(code(health.check(request).await.unwrap_err()), Code::LimitExceeded);
}

#[tokio::test]
async fn bodies_of_standard_actions_are_short_and_every_endpoint_has_a_ticket() {
    let world = World::new().await;
    let mut client = world.raw().await;
    let mut refused = async |name: &str, body: Vec<u8>| {
        let action = Action { r#type: name.to_owned(), body: body.into() };
        Error::from(client.do_action(action).await.err().unwrap())
    };
    let cancel = |endpoints: usize| {
        let endpoint = vec![FlightEndpoint::default(); endpoints];
        let info = FlightInfo { endpoint, ..FlightInfo::default() };
        CancelFlightInfoRequest { info: Some(info) }.encode_to_vec()
    };
    let endpoint =
        FlightEndpoint { app_metadata: vec![0; 80_000].into(), ..FlightEndpoint::default() };
    let renew = RenewFlightEndpointRequest { endpoint: Some(endpoint) }.encode_to_vec();
    for (name, body) in [
        ("CancelFlightInfo", cancel(40_000)),
        ("RenewFlightEndpoint", renew),
        ("SetSessionOptions", b"\x0a\0".repeat(40_000)),
    ] {
        let error = refused(name, body).await;
        assert_eq!(error.code(), Code::LimitExceeded, "{error}");
        assert!(error.message().contains(name), "{error}");
    }
    assert_eq!(rejected(&world, "action"), 3);
    let error = refused("CancelFlightInfo", cancel(2)).await;
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    assert!(error.message().contains("no ticket"), "{error}");
}

#[tokio::test]
async fn health_and_reflection_have_limits_of_their_own() {
    let world = World::with(Limits { max_calls: 1, ..Limits::default() }).await;
    let options = CallOptions::default().retry(RetryPolicy::none());
    let mut client = HealthClient::new(world.channel().await);
    let mut watching = Vec::new();
    for _ in 0..16 {
        watching.push(client.watch(HealthCheckRequest::default()).await.unwrap());
    }
    let status = client.watch(HealthCheckRequest::default()).await.err().unwrap();
    assert_eq!(code(status.clone()), Code::Overloaded, "{status}");
    assert_eq!(rejected(&world, "background_calls"), 1);
    // They take no place of anybody else's.
    let mut held = world.connection.get("batches/endless", &options).await.unwrap();
    held.next().await.unwrap().unwrap();
    let error = world.connection.action("Echo", Bytes::new(), &options).await.unwrap_err();
    assert_eq!(error.code(), Code::Overloaded, "{error}");
    assert_eq!(rejected(&world, "calls"), 1);
    drop((watching, held));
    until("all are gone", || world.metric("sheaf_flight_active_calls") == 0).await;
    client.check(HealthCheckRequest::default()).await.unwrap();
    world.connection.action("Echo", Bytes::new(), &options).await.unwrap();
}

#[tokio::test]
async fn a_call_whose_request_never_comes_ends() {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let world = World::at(clock.clone(), Limits::default()).await;
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/arrow.flight.protocol.FlightService/GetFlightInfo",
        "/arrow.flight.protocol.FlightService/DoGet",
    ] {
        let (_silent, request) = by_hand(path);
        let channel = world.channel().await;
        let call = tokio::spawn(async move { channel.oneshot(request).await.unwrap() });
        until("it is waited for", || world.metric("sheaf_flight_active_calls") == 1).await;
        until("it ends", || {
            clock.advance(Duration::from_secs(61));
            call.is_finished()
        })
        .await;
        let response = call.await.unwrap();
        assert_eq!(response.headers()["sheaf-code"], "deadline_exceeded", "{path}");
        until("it is gone", || world.metric("sheaf_flight_active_calls") == 0).await;
    }
    assert_eq!(rejected(&world, "idle"), 4);
}

#[tokio::test]
async fn who_may_not_write_hears_so_before_the_message_is_whole() {
    let server = Guarded::new(&[("reader", "allow=batches:r")], false).await;
    for method in ["DoPut", "DoExchange"] {
        let (sender, request) = by_hand(&format!("/arrow.flight.protocol.FlightService/{method}"));
        let path = vec!["batches".to_owned(), "a".to_owned()];
        let flight_descriptor = Some(FlightDescriptor::new_path(path));
        let descriptor = FlightData { flight_descriptor, ..FlightData::default() }.encode_to_vec();
        // A message of a mebibyte, of which no more comes than what it is for.
        let begun = [&[0, 0, 16, 0, 0][..], &descriptor].concat();
        sender.send(begun.into()).await.unwrap();
        let mut channel = server.channel("reader").await;
        let call = async { channel.ready().await.unwrap().call(request).await.unwrap() };
        let response = tokio::time::timeout(Duration::from_secs(20), call).await.unwrap();
        assert_eq!(response.headers()["sheaf-code"], "permission_denied", "{method}");
    }
}

/// Refuses every DoGet.
struct NoGets;

impl Middleware for NoGets {
    fn begin(&self, method: &str, _: &CallContext, _: &mut AnswerHeaders) -> Result<(), Error> {
        match method {
            "DoGet" => Err(Error::new(Code::PermissionDenied, "nobody gets anything")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn what_middleware_and_full_sessions_refuse_is_in_the_log() {
    let (log, _guard) = AuditLog::capture();
    let limits = Limits { max_sessions: 1, ..Limits::default() };
    let router = FlightRouter::builder().limits(limits).build().unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(router).middleware(Arc::new(NoGets));
    let handle = server.serve(listener).await.unwrap();
    let uri = format!("http://{}", handle.local_addr());
    let channel = tonic::transport::Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let mut client = FlightServiceClient::new(channel);
    client.do_get(Ticket::new("a")).await.unwrap_err();
    let open = || Action { r#type: "SetSessionOptions".to_owned(), body: Bytes::new() };
    client.do_action(open()).await.unwrap();
    client.do_action(open()).await.unwrap_err();
    let lines = log.take();
    let text = |line: &serde_json::Value| {
        ["method", "code"].map(|field| line[field].as_str().unwrap_or("-").to_owned()).join(" ")
    };
    let told: Vec<String> = lines.iter().map(text).collect();
    assert_eq!(told, ["DoGet permission_denied", "DoAction overloaded"], "{lines:?}");
}
