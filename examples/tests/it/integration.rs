//! The example server of the Arrow project's integration scenarios, and the
//! client's side of each as their testers play it.

use std::process::ExitStatus;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightDescriptor,
    FlightEndpoint, FlightInfo, RenewFlightEndpointRequest, Ticket,
};
use futures::TryStreamExt as _;
use prost::Message as _;
use sheaf_retry::{SystemClock, Timestamp};
use sheaf_testkit::Process;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::endpoints::Endpoints;
use crate::python::{finish, script};
use crate::run::binary;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    process: Process,
    port: u16,
}

pub(crate) type Client = FlightServiceClient<Channel>;

impl Server {
    pub(crate) fn start(scenario: &str) -> Self {
        let mut process = Process::command(binary("flight_integration"))
            .args(["--scenario", scenario, "--port", "0"])
            .spawn()
            .unwrap();
        let port = |line: &str| line.strip_prefix("Server listening on localhost:")?.parse().ok();
        let port = process.wait_for_line(PATIENCE, port).unwrap();
        Server { process, port }
    }

    pub(crate) async fn client(&self) -> Client {
        let uri = format!("http://localhost:{}", self.port);
        let channel = Channel::from_shared(uri).unwrap().connect().await;
        FlightServiceClient::new(channel.unwrap())
    }

    /// Ends it as a tester does.
    pub(crate) fn stop(mut self) {
        let status = self.process.terminate(PATIENCE).unwrap();
        assert!(status.success(), "{status}\n{}", self.process.stderr());
    }
}

/// Plays scenarios with pyarrow, each against a server of its own.
async fn play(scenarios: &[&str]) {
    let Some(python) = sheaf_testkit::python() else { return };
    for scenario in scenarios {
        let server = Server::start(scenario);
        let client = Process::command(&python)
            .arg(script("tests/it/flight_integration.py"))
            .args([*scenario, &server.port.to_string()])
            .spawn()
            .unwrap();
        assert!(finish(client).await.contains("as expected"), "{scenario}");
        server.stop();
    }
}

#[tokio::test]
async fn who_logs_in_is_known_by_name() {
    play(&["auth:basic_proto"]).await;
}

#[tokio::test]
async fn headers_come_back_with_good_and_bad_answers() {
    play(&["middleware"]).await;
}

#[tokio::test]
async fn endpoints_are_ordered_expire_and_have_metadata() {
    play(&["ordered", "expiration_time:do_get", "app_metadata_flight_info_endpoint"]).await;
}

#[tokio::test]
async fn only_two_actions_are_listed() {
    play(&["expiration_time:list_actions"]).await;
}

#[tokio::test]
async fn a_conversation_echoes_each_batch_before_the_next() {
    play(&["do_exchange:echo"]).await;
}

#[tokio::test]
async fn any_data_is_acknowledged_message_by_message_and_comes_back() {
    play(&["data"]).await;
}

fn command(text: &str) -> FlightDescriptor {
    FlightDescriptor::new_cmd(text.to_owned())
}

async fn act(client: &mut Client, name: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let answer = act_with(client, name, body, None).await?;
    Ok(answer.into_inner())
}

/// An action with one result, its answer with headers.
pub(crate) async fn act_with(
    client: &mut Client,
    name: &str,
    body: Vec<u8>,
    cookie: Option<&str>,
) -> Result<Response<Vec<u8>>, Status> {
    let mut request = Request::new(Action { r#type: name.to_owned(), body: body.into() });
    if let Some(cookie) = cookie {
        request.metadata_mut().insert("cookie", cookie.parse().unwrap());
    }
    let (metadata, results, extensions) = client.do_action(request).await?.into_parts();
    let results: Vec<_> = results.try_collect().await?;
    assert_eq!(results.len(), 1, "{name}");
    Ok(Response::from_parts(metadata, results[0].body.to_vec(), extensions))
}

fn micros(time: Option<prost_types::Timestamp>) -> Option<u64> {
    let time = time?;
    let micros = time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000;
    Some(micros.try_into().unwrap())
}

#[tokio::test]
async fn a_query_is_polled_until_it_is_done() {
    let server = Server::start("poll_flight_info");
    let mut client = server.client().await;
    let first = client.poll_flight_info(command("heavy query")).await.unwrap().into_inner();
    let next = first.flight_descriptor.unwrap();
    assert_eq!(next, command("poll"));
    assert_eq!(first.progress, Some(0.1));
    let now = SystemClock::shared().now().as_micros();
    let left = micros(first.expiration_time).unwrap().checked_sub(now).unwrap();
    assert!(left <= 10_000_000, "{left}");
    let info = first.info.unwrap();
    assert_eq!(info.flight_descriptor, Some(command("heavy query")));
    assert_eq!(info.endpoint[0].ticket, Some(Ticket { ticket: "long-running query".into() }));
    assert_eq!((info.total_records, info.total_bytes, info.ordered), (-1, -1, false));

    let second = client.poll_flight_info(next).await.unwrap().into_inner();
    assert_eq!((second.flight_descriptor, second.progress), (None, Some(1.0)));
    assert_eq!(second.expiration_time, None);
    let info = second.info.unwrap();
    assert_eq!(info.flight_descriptor, Some(command("poll")));
    let schema = arrow_schema::Schema::try_from(info).unwrap();
    assert_eq!(schema.field(0).name(), "number");
    assert_eq!(schema.field(0).data_type(), &arrow_schema::DataType::UInt32);
    server.stop();
}

#[tokio::test]
async fn an_endpoint_may_say_to_stay_on_the_connection() {
    play(&["location:reuse_connection"]).await;
    let server = Server::start("location:reuse_connection");
    let info = server.client().await.get_flight_info(command("reuse")).await.unwrap();
    let endpoints = info.into_inner().endpoint;
    let uris: Vec<_> = endpoints.iter().flat_map(|one| &one.location).map(|one| &one.uri).collect();
    assert_eq!(uris, ["arrow-flight-reuse-connection://?"]);
    server.stop();
}

async fn expiring(client: &mut Client) -> FlightInfo {
    client.get_flight_info(command("expiration")).await.unwrap().into_inner()
}

async fn read(client: &mut Client, endpoint: &FlightEndpoint) -> Result<usize, Status> {
    let ticket = endpoint.ticket.clone().unwrap();
    let messages: Vec<_> = client.do_get(ticket).await?.into_inner().try_collect().await?;
    Ok(messages.len())
}

#[tokio::test]
async fn what_is_cancelled_cannot_be_read() {
    let server = Server::start("expiration_time:cancel_flight_info");
    let mut client = server.client().await;
    let info = expiring(&mut client).await;
    let endpoints = info.endpoint.clone();
    let request = CancelFlightInfoRequest { info: Some(info) }.encode_to_vec();
    // There is nothing to give up any more the second time.
    for expected in [CancelStatus::Cancelled, CancelStatus::NotCancellable] {
        let result = act(&mut client, "CancelFlightInfo", request.clone()).await.unwrap();
        let result = CancelFlightInfoResult::decode(result.as_slice()).unwrap();
        assert_eq!(result.status(), expected);
    }
    assert_eq!(endpoints.len(), 3);
    for endpoint in &endpoints {
        let error = read(&mut client, endpoint).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains("it was given up"), "{error}");
    }
    // What is asked for again is there again.
    let info = expiring(&mut client).await;
    assert_eq!(read(&mut client, &info.endpoint[0]).await.unwrap(), 2);
    server.stop();
}

#[tokio::test]
async fn what_is_renewed_expires_later() {
    let server = Server::start("expiration_time:renew_flight_endpoint");
    let mut client = server.client().await;
    let endpoints = expiring(&mut client).await.endpoint;
    assert_eq!(endpoints[0].expiration_time, None);
    for endpoint in &endpoints[1..] {
        let request = RenewFlightEndpointRequest { endpoint: Some(endpoint.clone()) };
        let result = act(&mut client, "RenewFlightEndpoint", request.encode_to_vec()).await;
        let renewed = FlightEndpoint::decode(result.unwrap().as_slice()).unwrap();
        let later = micros(renewed.expiration_time) > micros(endpoint.expiration_time);
        assert!(later, "{renewed:?} {endpoint:?}");
        let old = endpoint.ticket.clone().unwrap().ticket;
        let text = format!("{}: renewed (+ 10 seconds)", String::from_utf8_lossy(&old));
        assert_eq!(renewed.ticket.as_ref().unwrap().ticket, text);
        assert_eq!(read(&mut client, &renewed).await.unwrap(), 2);
    }
    let nobody = FlightEndpoint { ticket: Some(Ticket::new("9: x")), ..FlightEndpoint::default() };
    let request = RenewFlightEndpointRequest { endpoint: Some(nobody) }.encode_to_vec();
    let error = act(&mut client, "RenewFlightEndpoint", request).await.unwrap_err();
    assert!(error.message().contains("no ticket \"9: x\""), "{error}");
    server.stop();
}

#[test]
fn a_ticket_is_good_until_its_time() {
    let endpoints = Endpoints::default();
    let at = Timestamp::from_millis;
    endpoints.reset([None, Some(at(5_000))].into_iter());
    let read = |ticket, now| endpoints.with(ticket, |_, one| one.read(at(now))).unwrap();
    for now in [0, 4_999] {
        assert_eq!(read("1: five seconds", now), Ok(()));
    }
    assert_eq!(read("1: five seconds", 5_000), Err("it has expired"));
    endpoints.with("1", |_, one| one.expires = Some(at(6_000))).unwrap();
    assert_eq!(read("1", 5_999), Ok(()));
    assert_eq!(read("0", 100_000), Ok(()));
    assert_eq!(read("0", 100_000), Err("it can be read once only"));
    for (expected, why) in [(true, "it was given up"), (false, "it was given up")] {
        assert_eq!(endpoints.with("1", |_, one| one.cancel()).unwrap(), expected);
        assert_eq!(read("1", 0), Err(why));
    }
    for nobody in ["2: x", "x", "", "-1"] {
        assert!(endpoints.with(nobody, |_, _| ()).is_err(), "{nobody}");
    }
}

/// Runs it to its end, which must be that of wrong arguments.
fn refused(arguments: &[&str]) -> (ExitStatus, String) {
    let mut process =
        Process::command(binary("flight_integration")).args(arguments).spawn().unwrap();
    let status = process.wait_exit(PATIENCE).unwrap();
    assert_eq!(process.stdout(), "");
    (status, process.stderr())
}

#[test]
fn wrong_arguments_are_named_all_at_once() {
    let there = "there are: app_metadata_flight_info_endpoint, auth:basic_proto, data, ";
    for (arguments, parts) in [
        (&["--port", "0"][..], &["--scenario NAME is missing", there][..]),
        (&["--scenario", "ordered"], &["--port N is missing; 0 takes a free one"]),
        (&[], &["--scenario NAME is missing", "--port N is missing"]),
        (&["--scenario", "x", "--port=0"], &["there is no scenario \"x\"", there]),
        (&["--scenario=ordered", "--port=70000"], &["--port \"70000\" is no number from 0 to"]),
        (&["--scenario=ordered", "--port"], &["--port N is missing"]),
        (&["--scenario=ordered", "--port=0", "--host=x"], &["there is no flag \"--host\""]),
        (&["-v", "--port=x"], &["no flag \"-v\"", "--port \"x\"", "--scenario NAME is missing"]),
    ] {
        let (status, text) = refused(arguments);
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        for part in parts {
            assert!(text.contains(part), "no {part:?} for {arguments:?} in:\n{text}");
        }
    }
}

#[test]
fn a_port_in_use_is_named() {
    let server = Server::start("ordered");
    let port = server.port.to_string();
    let (status, text) = refused(&["--scenario", "ordered", "--port", &port]);
    assert_eq!(status.code(), Some(2));
    assert!(text.contains("--port") && text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("in use"), "{text}");
    server.stop();
}
