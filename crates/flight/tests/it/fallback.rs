//! What no namespace claims, beside one that does; and middleware.

use std::sync::{Arc, Mutex};

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{
    Action, CancelFlightInfoRequest, Criteria, FlightData, FlightDescriptor, FlightEndpoint,
    FlightInfo, RenewFlightEndpointRequest, Ticket,
};
use arrow_schema::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use sheaf_flight::{
    AnswerHeaders, CallContext, CallOptions, EndpointEntry, Error, Exposure, Fallback, FlightEntry,
    FlightRouter, Listener, MessageStream, Middleware, Progress, PutResults, RawDescriptor, Server,
    ServerHandle, invalid,
};
use sheaf_retry::{Code, Retryable as _};
use tonic::transport::Channel;

use crate::memory::Memory;
use crate::support::{connect, messages, stream_of};

/// Answers everything, and tells in doing so what it was asked for.
struct Anything;

fn entry(descriptor: RawDescriptor) -> FlightEntry {
    let app_metadata = format!("{descriptor:?}").into();
    FlightEntry { app_metadata, ..FlightEntry::new(descriptor, &Schema::empty()) }
}

#[async_trait]
impl Fallback for Anything {
    async fn put(
        &self,
        _: &CallContext,
        descriptor: RawDescriptor,
        messages: MessageStream,
    ) -> Result<PutResults, Error> {
        let name = stream::iter([Ok(format!("{descriptor:?}").into())]);
        let sizes = messages.map_ok(|message| message.header.len().to_string().into());
        Ok(name.chain(sizes).boxed())
    }

    async fn get(&self, _: &CallContext, ticket: Bytes) -> Result<MessageStream, Error> {
        let mut sent = messages(0, 0);
        sent[0].app_metadata = ticket;
        Ok(stream_of(sent))
    }

    async fn list(
        &self,
        _: &CallContext,
        criteria: &[u8],
    ) -> Result<BoxStream<'static, Result<FlightEntry, Error>>, Error> {
        let criteria = Bytes::copy_from_slice(criteria);
        Ok(stream::iter([Ok(entry(RawDescriptor::Command(criteria)))]).boxed())
    }

    async fn info(&self, _: &CallContext, descriptor: RawDescriptor) -> Result<FlightEntry, Error> {
        Ok(entry(descriptor))
    }

    async fn poll(&self, _: &CallContext, descriptor: RawDescriptor) -> Result<Progress, Error> {
        let fraction = Some(if descriptor == RawDescriptor::Path(vec![]) { 7.0 } else { 0.5 });
        let next = Some(RawDescriptor::Command(Bytes::from_static(b"\xffnext")));
        Ok(Progress {
            entry: entry(descriptor),
            next,
            fraction,
            expires_at_micros: Some(1_500_000),
        })
    }

    async fn exchange(
        &self,
        _: &CallContext,
        _: RawDescriptor,
        messages: MessageStream,
    ) -> Result<MessageStream, Error> {
        Ok(messages)
    }

    async fn renew(&self, _: &CallContext, ticket: Bytes) -> Result<EndpointEntry, Error> {
        Ok(EndpointEntry { app_metadata: ticket, ..EndpointEntry::new(vec![0xfe]) })
    }

    async fn cancel(&self, _: &CallContext, ticket: Bytes) -> Result<bool, Error> {
        Ok(ticket == [0xff, 1][..])
    }
}

/// A fallback that serves nothing.
struct Nothing;

#[async_trait]
impl Fallback for Nothing {}

async fn serve(
    fallback: impl Fallback,
    with: impl FnOnce(Server) -> Server,
) -> (ServerHandle, FlightServiceClient<Channel>) {
    let router = FlightRouter::builder()
        .handler("batches", Memory::new("batches"))
        .fallback(Arc::new(fallback))
        .build()
        .unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let handle = with(Server::new(router)).serve(listener).await.unwrap();
    let uri = format!("http://{}", handle.local_addr());
    let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
    (handle, FlightServiceClient::new(channel))
}

fn path(elements: &[&str]) -> FlightDescriptor {
    FlightDescriptor::new_path(elements.iter().map(|&one| one.to_owned()).collect())
}

fn command(bytes: &'static [u8]) -> FlightDescriptor {
    FlightDescriptor::new_cmd(bytes)
}

#[tokio::test]
async fn only_what_a_namespace_claims_is_kept_from_the_fallback() {
    let (_handle, mut client) = serve(Anything, |server| server).await;
    for (descriptor, text) in [
        (path(&["others", "a"]), "Path([\"others\", \"a\"])"),
        (path(&[]), "Path([])"),
        (command(b"SELECT 1"), "Command(b\"SELECT 1\")"),
        (command(b"\xff\0"), "Command(b\"\\xff\\0\")"),
        (command(b""), "Command(b\"\")"),
    ] {
        let info = client.get_flight_info(descriptor.clone()).await.unwrap().into_inner();
        assert_eq!(info.app_metadata, text);
        assert_eq!(info.flight_descriptor, Some(descriptor.clone()));
        client.get_schema(descriptor).await.unwrap();
    }
    // These are the namespace's, which has nothing of the kind.
    for descriptor in [path(&["batches", "a"]), command(b"a.b:c")] {
        let status = client.get_flight_info(descriptor).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::NotFound, "{status}");
    }
    for descriptor in [command(&[b' '; 20_000]), path(&["x"; 17])] {
        let status = client.get_flight_info(descriptor).await.unwrap_err();
        assert_eq!(Error::from(status).code(), Code::LimitExceeded);
    }
    let status = client.get_flight_info(FlightDescriptor::default()).await.unwrap_err();
    assert_eq!(Error::from(status).code(), Code::InvalidArgument);
    let criteria = Criteria { expression: "\0".into() };
    let listed: Vec<_> =
        client.list_flights(criteria).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].app_metadata, "Command(b\"\\0\")");
}

#[tokio::test]
async fn tickets_are_any_bytes() {
    let (handle, mut client) = serve(Anything, |server| server).await;
    for ticket in [&b""[..], b"\xff", b"/", b"others/a", b"a?b"] {
        let data = client.do_get(Ticket::new(ticket)).await.unwrap().into_inner();
        let data: Vec<_> = data.try_collect().await.unwrap();
        assert_eq!(data[0].app_metadata, ticket);
        // Our own client takes any bytes too.
        let messages = connect(&handle.uri()).get(ticket, &CallOptions::default()).await.unwrap();
        assert_eq!(messages.try_collect::<Vec<_>>().await.unwrap()[0].app_metadata, ticket);
    }
    let status = client.do_get(Ticket::new("batches/a")).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    let status = client.do_get(Ticket::new(vec![0xff; 20_000])).await.unwrap_err();
    assert_eq!(Error::from(status).code(), Code::LimitExceeded);
}

async fn act(client: &mut FlightServiceClient<Channel>, name: &str, body: Vec<u8>) -> Bytes {
    let action = Action { r#type: name.to_owned(), body: body.into() };
    let mut results = client.do_action(action).await.unwrap().into_inner();
    results.message().await.unwrap().unwrap().body
}

fn endpoint(ticket: &'static [u8]) -> FlightEndpoint {
    FlightEndpoint { ticket: Some(Ticket::new(ticket)), ..FlightEndpoint::default() }
}

#[tokio::test]
async fn endpoints_of_the_fallback_are_renewed_and_cancelled() {
    let (_handle, mut client) = serve(Anything, |server| server).await;
    let renew = RenewFlightEndpointRequest { endpoint: Some(endpoint(b"\xff")) };
    let renewed = act(&mut client, "RenewFlightEndpoint", renew.encode_to_vec()).await;
    let renewed = FlightEndpoint::decode(renewed).unwrap();
    assert_eq!(renewed.app_metadata, &b"\xff"[..]);
    assert_eq!(renewed.ticket.unwrap().ticket, &b"\xfe"[..]);
    // CancelFlightInfoResult { status: CANCELLED }, { status: NOT_CANCELLABLE }
    for (tickets, expected) in [
        (vec![&b"\xff\x01"[..]], b"\x08\x01"),
        (vec![b"\xff\x01", b"\xff"], b"\x08\x03"),
        (vec![b"\xff\x01", b"batches/a"], b"\x08\x03"),
    ] {
        let endpoint = tickets.into_iter().map(endpoint).collect();
        let info = Some(FlightInfo { endpoint, ..FlightInfo::default() });
        let request = CancelFlightInfoRequest { info }.encode_to_vec();
        assert_eq!(act(&mut client, "CancelFlightInfo", request).await, &expected[..]);
    }
}

#[tokio::test]
async fn progress_goes_out_as_it_is_told() {
    let (_handle, mut client) = serve(Anything, |server| server).await;
    let poll = client.poll_flight_info(command(b"long one")).await.unwrap().into_inner();
    assert_eq!(poll.progress, Some(0.5));
    assert_eq!(poll.flight_descriptor, Some(command(b"\xffnext")));
    let expires = poll.expiration_time.unwrap();
    assert_eq!((expires.seconds, expires.nanos), (1, 500_000_000));
    assert_eq!(poll.info.unwrap().app_metadata, "Command(b\"long one\")");
    let status = client.poll_flight_info(path(&[])).await.unwrap_err();
    assert!(status.message().contains("7 is done, which is not from 0 to 1"), "{status}");
}

/// DoPut by generated code, which sees every answer.
async fn put(
    client: &mut FlightServiceClient<Channel>,
    descriptor: FlightDescriptor,
    bodies: Vec<FlightData>,
) -> (Vec<Bytes>, Option<tonic::Status>) {
    let mut descriptor = Some(descriptor);
    let data = bodies
        .into_iter()
        .map(move |data| FlightData { flight_descriptor: descriptor.take(), ..data });
    let mut answers = match client.do_put(stream::iter(data.collect::<Vec<_>>())).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut got = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(result)) => got.push(result.app_metadata),
            Ok(None) => return (got, None),
            Err(status) => return (got, Some(status)),
        }
    }
}

#[tokio::test]
async fn a_put_may_have_any_number_of_answers() {
    for with in [|server| server, Server::plain] {
        let (_handle, mut client) = serve(Anything, with).await;
        let sent: Vec<FlightData> = messages(2, 10)
            .into_iter()
            .map(|one| FlightData {
                data_body: one.contiguous_body(),
                data_header: one.header,
                ..FlightData::default()
            })
            .collect();
        let sizes = sent.iter().map(|one| one.data_header.len().to_string());
        let expected: Vec<String> =
            ["Command(b\"\\xff\")".to_owned()].into_iter().chain(sizes).collect();
        let (answers, status) = put(&mut client, command(b"\xff"), sent.clone()).await;
        assert_eq!(
            (answers, status.is_none()),
            (expected.into_iter().map(Bytes::from).collect(), true)
        );
        // No schema, no put: also where the name is nobody's business.
        let (answers, status) = put(&mut client, command(b"\xff"), sent[1..].to_vec()).await;
        assert_eq!((answers.len(), status.unwrap().code()), (0, tonic::Code::InvalidArgument));
    }
}

#[tokio::test]
async fn a_fallback_without_anything_says_so() {
    let (_handle, mut client) = serve(Nothing, |server| server).await;
    let unimplemented = |status: tonic::Status| {
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{status}");
        assert!(status.message().contains("is not served here for such a name"), "{status}");
    };
    unimplemented(client.get_flight_info(command(b"\xff")).await.unwrap_err());
    unimplemented(client.poll_flight_info(command(b"\xff")).await.unwrap_err());
    unimplemented(client.do_get(Ticket::new("x")).await.unwrap_err());
    let schema =
        FlightData { data_header: messages(0, 0)[0].header.clone(), ..FlightData::default() };
    unimplemented(put(&mut client, command(b"\xff"), vec![schema.clone()]).await.1.unwrap());
    let first = FlightData { flight_descriptor: Some(command(b"\xff")), ..schema };
    unimplemented(client.do_exchange(stream::iter([first])).await.unwrap_err());
    let listed = client.list_flights(Criteria::default()).await.unwrap().into_inner();
    assert_eq!(listed.count().await, 0);
}

/// Notes calls, and refuses or panics when a header says so.
#[derive(Default)]
struct Watcher(Mutex<Vec<String>>);

impl Middleware for Watcher {
    fn begin(
        &self,
        method: &str,
        context: &CallContext,
        answer: &mut AnswerHeaders,
    ) -> Result<(), Error> {
        self.0.lock().unwrap().push(method.to_owned());
        answer.add("x-seen", context.header("x-test").unwrap_or("nothing"))?;
        match context.header("x-test") {
            Some("refuse") => Err(invalid("the header says to refuse")),
            Some("panic") => panic!("asked to panic"),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn middleware_adds_headers_to_every_answer_and_may_refuse() {
    for plain in [false, true] {
        let (first, second) = (Arc::new(Watcher::default()), Arc::new(Watcher::default()));
        let (one, two) = (first.clone(), second.clone());
        let with = move |server: Server| {
            let server = if plain { server.plain() } else { server };
            server.middleware(one).middleware(two)
        };
        let (_handle, mut client) = serve(Anything, with).await;
        let mut get = async |ticket: &'static str, header: &'static str| {
            let mut request = tonic::Request::new(Ticket::new(ticket));
            request.metadata_mut().insert("x-test", header.parse().unwrap());
            client.do_get(request).await
        };
        let seen = |metadata: &tonic::metadata::MetadataMap| -> Vec<String> {
            let values = metadata.get_all("x-seen").iter();
            values.map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        let good = get("x", "good").await.unwrap();
        assert_eq!(seen(good.metadata()), ["good", "good"]);
        // It fails at once, and it fails after it has begun.
        let bad = get("batches/nobody", "bad").await.unwrap_err();
        assert_eq!(
            (bad.code(), seen(bad.metadata())),
            (tonic::Code::NotFound, vec!["bad".to_owned(); 2])
        );
        let late = get("batches/late-fail", "late").await.unwrap();
        assert_eq!(seen(late.metadata()), ["late", "late"]);
        assert!(late.into_inner().try_collect::<Vec<_>>().await.is_err());
        // The second does not see what the first refuses.
        let refused = get("x", "refuse").await.unwrap_err();
        assert!(refused.message().contains("says to refuse"), "{refused}");
        assert_eq!(seen(refused.metadata()), ["refuse"]);
        let panicked = get("x", "panic").await.unwrap_err();
        assert_eq!(
            (panicked.code(), seen(panicked.metadata())),
            (tonic::Code::Internal, vec!["panic".to_owned()])
        );
        get("x", "still here").await.unwrap();
        assert_eq!(*first.0.lock().unwrap(), ["DoGet"; 6]);
        assert_eq!(second.0.lock().unwrap().len(), 4);
    }
}

#[tokio::test]
async fn standard_actions_are_those_asked_for() {
    let router = |names: &[&'static str]| {
        FlightRouter::builder().standard_actions(names.iter().copied()).build()
    };
    let error = router(&["HealthCheck", "Healthcheck"]).unwrap_err();
    assert!(
        error.message().contains("\"Healthcheck\" is no standard action; there are: "),
        "{error}"
    );
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let handle = Server::new(router(&["HealthCheck"]).unwrap()).serve(listener).await.unwrap();
    let connection = connect(&handle.uri());
    let options = CallOptions::default();
    let actions = connection.actions(&options).await.unwrap();
    assert_eq!(actions.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["HealthCheck"]);
    let error = connection.action("CloseSession", Bytes::new(), &options).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}
