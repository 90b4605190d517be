//! Health, reflection, sessions, standard actions, and services added.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, CancelFlightInfoRequest, FlightEndpoint, FlightInfo, Ticket};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{Ready, ready};
use futures::stream;
use prost::Message as _;
use sheaf_flight::{
    ActionHandler, CallContext, CallOptions, Error, Exposure, FlightRouter, Listener, Server,
};
use sheaf_retry::{Code, Retryable as _};
use tonic::body::Body;
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::memory::Memory;
use crate::support::World;

const FLIGHT: &str = "arrow.flight.protocol.FlightService";

#[tokio::test]
async fn health_is_per_service_and_can_be_set() {
    let world = World::new().await;
    let mut client = HealthClient::new(world.channel().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.check(request).await.map(|response| response.into_inner().status())
    };
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check(FLIGHT).await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("nobody").await.unwrap_err().code(), tonic::Code::NotFound);
    world.handle.health().set("sheaf.store", false).await;
    world.handle.health().set("", false).await;
    assert_eq!(check("sheaf.store").await.unwrap(), ServingStatus::NotServing);
    let options = CallOptions::default();
    let answer = world.connection.action("HealthCheck", Bytes::new(), &options).await.unwrap();
    let json: serde_json::Value = serde_json::from_slice(&answer[0]).unwrap();
    assert_eq!(json["status"], "not_serving");
    assert_eq!(json["services"][FLIGHT], "serving");
}

async fn reflect(world: &World, question: MessageRequest) -> MessageResponse {
    let mut client = ServerReflectionClient::new(world.channel().await);
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let answer = client.server_reflection_info(stream::iter([request])).await.unwrap();
    let answer: ServerReflectionResponse = answer.into_inner().next().await.unwrap().unwrap();
    answer.message_response.unwrap()
}

#[tokio::test]
async fn reflection_shows_flight() {
    let world = World::new().await;
    let listed = reflect(&world, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = listed else { panic!("{listed:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.iter().any(|name| name == FLIGHT), "{names:?}");
    assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");
    let symbol = MessageRequest::FileContainingSymbol(format!("{FLIGHT}.DoPut"));
    let found = reflect(&world, symbol).await;
    assert!(matches!(found, MessageResponse::FileDescriptorResponse(_)), "{found:?}");
}

async fn act(
    world: &World,
    name: &str,
    body: Vec<u8>,
    cookie: Option<&str>,
) -> Result<(Bytes, Option<String>), Status> {
    act_by(world.raw().await, name, body, cookie).await
}

/// The first result of an action, and the cookie of its answer.
async fn act_by(
    mut client: FlightServiceClient<tonic::transport::Channel>,
    name: &str,
    body: Vec<u8>,
    cookie: Option<&str>,
) -> Result<(Bytes, Option<String>), Status> {
    let action = Action { r#type: name.to_owned(), body: body.into() };
    let mut request = Request::new(action);
    if let Some(cookie) = cookie {
        request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    }
    let response = client.do_action(request).await?;
    let cookie = response.metadata().get("set-cookie");
    let cookie = cookie.map(|cookie| cookie.to_str().unwrap().to_owned());
    let body = response.into_inner().message().await?.unwrap().body;
    Ok((body, cookie))
}

#[tokio::test]
async fn a_session_keeps_options_until_it_is_closed() {
    let world = World::new().await;
    // SetSessionOptionsRequest { session_options: { "tz": { string_value: "UTC" } } }
    let set = b"\x0a\x0b\x0a\x02tz\x12\x05\x0a\x03UTC".to_vec();
    let (_, cookie) = act(&world, "SetSessionOptions", set.clone(), None).await.unwrap();
    let cookie = cookie.unwrap();
    assert!(cookie.starts_with("arrow_flight_session_id="), "{cookie}");
    let both = format!("theme=dark; {cookie}");
    let (options, _) = act(&world, "GetSessionOptions", vec![], Some(&both)).await.unwrap();
    assert_eq!(options, set);
    let (none, _) = act(&world, "GetSessionOptions", vec![], None).await.unwrap();
    assert!(none.is_empty());
    let (_, again) = act(&world, "SetSessionOptions", set, Some(&cookie)).await.unwrap();
    assert_eq!(again, None, "the session is there already");
    let (closed, _) = act(&world, "CloseSession", vec![], Some(&cookie)).await.unwrap();
    assert_eq!(closed, Bytes::from_static(b"\x08\x01"));
    let status = act(&world, "CloseSession", vec![], Some(&cookie)).await.unwrap_err();
    assert_eq!(Error::from(status).code(), Code::InvalidArgument);
    let status = act(&world, "SetSessionOptions", vec![0xff], None).await.unwrap_err();
    assert_eq!(Error::from(status).code(), Code::InvalidArgument);
}

/// Tells what option `zone` is, in the words of `Debug`.
struct Zone;

#[async_trait]
impl ActionHandler for Zone {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![("Zone", "Tell an option")]
    }

    async fn call(&self, context: &CallContext, _: &str, _: Bytes) -> Result<Vec<Bytes>, Error> {
        Ok(vec![format!("{:?}", context.session_option("zone")).into()])
    }
}

#[tokio::test]
async fn handlers_read_options_of_the_callers_session() {
    let router = FlightRouter::builder().actions(Arc::new(Zone)).build().unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--x", Exposure::Loopback).unwrap();
    let handle = Server::new(router).serve(listener).await.unwrap();
    let uri = format!("http://{}", handle.local_addr());
    let channel = tonic::transport::Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let client = FlightServiceClient::new(channel);
    let act = async |name: &str, body: &[u8], cookie: Option<&str>| {
        act_by(client.clone(), name, body.to_vec(), cookie).await.unwrap()
    };
    let text = async |cookie: Option<&str>| act("Zone", b"", cookie).await.0;
    assert_eq!(text(None).await, "None");
    // { "zone": { string_list_value: { "a", "b" } } }, { "zone": { bool_value: true } }, unset
    let list = b"\x0a\x10\x0a\x04zone\x12\x08\x2a\x06\x0a\x01a\x0a\x01b";
    let (_, cookie) = act("SetSessionOptions", list, None).await;
    let cookie = cookie.unwrap();
    assert_eq!(text(Some(&cookie)).await, "Some(StringList([\"a\", \"b\"]))");
    assert_eq!(text(None).await, "None");
    act("SetSessionOptions", b"\x0a\x0a\x0a\x04zone\x12\x02\x10\x01", Some(&cookie)).await;
    assert_eq!(text(Some(&cookie)).await, "Some(Bool(true))");
    act("SetSessionOptions", b"\x0a\x06\x0a\x04zone", Some(&cookie)).await;
    assert_eq!(text(Some(&cookie)).await, "None");
}

#[tokio::test]
async fn cancel_and_renew_reach_the_namespace() {
    let world = World::new().await;
    let endpoint = FlightEndpoint {
        ticket: Some(Ticket { ticket: "batches/a".into() }),
        ..FlightEndpoint::default()
    };
    let info = FlightInfo { endpoint: vec![endpoint.clone()], ..FlightInfo::default() };
    let request = CancelFlightInfoRequest { info: Some(info) };
    let (result, _) = act(&world, "CancelFlightInfo", request.encode_to_vec(), None).await.unwrap();
    // CancelFlightInfoResult { status: NOT_CANCELLABLE }
    assert_eq!(result, Bytes::from_static(b"\x08\x03"));
    let renew = arrow_flight::RenewFlightEndpointRequest { endpoint: Some(endpoint) };
    let status = act(&world, "RenewFlightEndpoint", renew.encode_to_vec(), None).await.unwrap_err();
    assert_eq!(Error::from(status).code(), Code::Unimplemented);
}

/// A gRPC service that answers every call with nothing.
#[derive(Clone)]
struct Empty;

impl tonic::server::NamedService for Empty {
    const NAME: &'static str = "test.Empty";
}

impl tower::Service<http::Request<Body>> for Empty {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: http::Request<Body>) -> Self::Future {
        assert!(!_request.uri().path().ends_with("/Panic"), "asked to panic");
        ready(Ok(Status::ok("").into_http()))
    }
}

#[tokio::test]
async fn another_service_shares_the_port_and_its_rules() {
    let router =
        || FlightRouter::builder().handler("batches", Memory::new("batches")).build().unwrap();
    let bind = || Listener::bind("127.0.0.1:0", "--x", Exposure::Loopback).unwrap();
    let handle = Server::new(router()).add_service(Empty).serve(bind()).await.unwrap();
    assert!(handle.health().is_serving("test.Empty"));
    let uri = format!("http://{}", handle.local_addr());
    let channel = tonic::transport::Channel::from_shared(uri).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    let mut call = async |method: &'static str| {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = http::uri::PathAndQuery::from_static(method);
        grpc.server_streaming(Request::new(()), path, codec).await.map(drop)
    };
    call("/test.Empty/Any").await.unwrap();
    let panicked = call("/test.Empty/Panic").await.unwrap_err();
    assert_eq!(panicked.code(), tonic::Code::Internal);
    call("/test.Empty/Any").await.unwrap();
    assert_eq!(call("/no.Such/Any").await.unwrap_err().code(), tonic::Code::Unimplemented);

    let twice = Server::new(router()).add_service(Empty).add_service(Empty).serve(bind()).await;
    assert!(twice.unwrap_err().message().contains("test.Empty"));
    let unreadable = Server::new(router()).descriptors(b"\xff").serve(bind()).await;
    assert_eq!(unreadable.unwrap_err().code(), Code::InvalidArgument);
    drop(Arc::new(handle));
}
