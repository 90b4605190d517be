//! Names, passwords and tokens, with clients that have none of our code.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, BasicAuth, Empty, FlightData, FlightDescriptor, HandshakeRequest};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use prost::Message as _;
use sheaf_flight::{
    AnswerHeaders, CallContext, Error, Exposure, FlightRouter, Listener, Logins, Middleware,
    Passwords, Security, SecurityFiles, Server, ServerHandle,
};
use sheaf_retry::{Code, ManualClock, Retryable as _, SystemClock, Timestamp};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::guarded::AuditLog;
use crate::memory::{Echo, Memory};

/// Only bounds how long a broken server hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const LIFETIME: Duration = Duration::from_secs(60);

struct Ada;

#[async_trait]
impl Passwords for Ada {
    async fn verify(&self, name: &str, password: &str) -> Result<bool, Error> {
        match name {
            "down" => Err(Error::new(Code::Unavailable, "the directory of users is down")),
            name => Ok(name == "ada" && password == "p:w"),
        }
    }
}

/// Sees to it that no credentials get this far.
struct NoSecrets;

impl Middleware for NoSecrets {
    fn begin(&self, _: &str, context: &CallContext, _: &mut AnswerHeaders) -> Result<(), Error> {
        assert_eq!(context.header("authorization"), None);
        Ok(())
    }
}

struct Home {
    clock: Arc<ManualClock>,
    logins: Logins,
    handle: ServerHandle,
    client: FlightServiceClient<Channel>,
}

async fn home(security: Security) -> Home {
    let clock = ManualClock::new(Timestamp::EPOCH);
    let logins = Logins::new(Arc::new(Ada), clock.clone()).lifetime(LIFETIME);
    let router = FlightRouter::builder()
        .handler("batches", Memory::new("batches"))
        .actions(Arc::new(Echo::default()))
        .build()
        .unwrap();
    let listener = Listener::bind("127.0.0.1:0", "--flight-addr", Exposure::Loopback).unwrap();
    let server = Server::new(router).middleware(Arc::new(NoSecrets));
    let server = server.security(security.with_logins(logins.clone()));
    let handle = server.serve(listener).await.unwrap();
    let uri = format!("http://{}", handle.local_addr());
    let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
    Home { clock, logins, handle, client: FlightServiceClient::new(channel) }
}

impl Home {
    /// A handshake of one message, or of none: the payload and the header of the answer.
    async fn handshake(
        &self,
        payload: Option<Vec<u8>>,
        header: Option<&str>,
    ) -> Result<(Option<Bytes>, String), Error> {
        let message =
            |payload: Vec<u8>| HandshakeRequest { protocol_version: 7, payload: payload.into() };
        let mut request = Request::new(stream::iter(payload.map(message)));
        if let Some(header) = header {
            request.metadata_mut().insert("authorization", header.parse().unwrap());
        }
        let answer = self.client.clone().handshake(request).await?;
        let bearer = answer.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let answer = answer.into_inner().message().await?;
        assert!(answer.as_ref().is_none_or(|answer| answer.protocol_version == 7));
        Ok((answer.map(|answer| answer.payload), bearer))
    }

    async fn login(&self) -> String {
        let basic = format!("Basic {}", STANDARD.encode("ada:p:w"));
        let (payload, bearer) = self.handshake(None, Some(&basic)).await.unwrap();
        assert_eq!(payload, None);
        bearer
    }

    async fn list(&self, header: Option<(&'static str, &str)>) -> Result<Response<()>, Status> {
        let mut request = Request::new(Empty {});
        if let Some((name, value)) = header {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        self.client.clone().list_actions(request).await.map(|answer| answer.map(drop))
    }
}

fn basic_auth(username: &str, password: &str) -> Option<Vec<u8>> {
    let (username, password) = (username.to_owned(), password.to_owned());
    Some(BasicAuth { username, password }.encode_to_vec())
}

#[tokio::test]
async fn a_token_of_either_handshake_lets_in_by_either_header() {
    let home = home(Security::none()).await;
    let status = home.list(None).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
    assert!(status.message().contains("Flight's Handshake has one"), "{status}");
    let (payload, bearer) = home.handshake(basic_auth("ada", "p:w"), None).await.unwrap();
    let token = String::from_utf8(payload.unwrap().into()).unwrap();
    assert_eq!(bearer, format!("Bearer {token}"));
    let other = home.login().await;
    assert_ne!(other, bearer);
    for bearer in [&bearer, &other] {
        home.list(Some(("authorization", bearer))).await.unwrap();
        let token = bearer.trim_start_matches("Bearer ");
        let mut request = Request::new(Action { r#type: "Echo".to_owned(), body: Bytes::new() });
        let value = MetadataValue::from_bytes(token.as_bytes());
        request.metadata_mut().insert_bin("auth-token-bin", value);
        home.client.clone().do_action(request).await.unwrap();
    }
    // Health needs no token, as ever.
    let channel = Channel::from_shared(format!("http://{}", home.handle.local_addr())).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
}

#[tokio::test]
async fn a_handshake_without_credentials_says_what_is_missing() {
    let home = home(Security::none()).await;
    let (log, _guard) = AuditLog::capture();
    let basic = |text: &str| format!("Basic {}", STANDARD_NO_PAD.encode(text));
    let long = basic_auth(&"x".repeat(70_000), "p:w");
    for (payload, header, code, part) in [
        (None, None, Code::Unauthenticated, "neither the header"),
        (Some(b"\xff".to_vec()), None, Code::InvalidArgument, "has no BasicAuth"),
        (basic_auth("ada", "no"), None, Code::Unauthenticated, "name or the password is wrong"),
        (basic_auth("", ""), None, Code::InvalidArgument, "the name to log in with is empty"),
        (basic_auth(&"x".repeat(5_000), ""), None, Code::LimitExceeded, "at most 4096"),
        (long, None, Code::LimitExceeded, "more than the 65536 bytes"),
        (None, Some("Bearer x".to_owned()), Code::InvalidArgument, "NAME:PASSWORD"),
        (None, Some(basic("ada:p")), Code::Unauthenticated, "name or the password is wrong"),
        (None, Some(basic("down:x")), Code::Unavailable, "the directory of users is down"),
    ] {
        let error = home.handshake(payload, header.as_deref()).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(part), "no {part:?} in {error}");
        // Who guesses passwords is seen; what was guessed is not.
        let lines = log.take();
        assert!(lines.len() == 1 && lines[0]["method"] == "Handshake", "{lines:?}");
        assert_eq!(lines[0]["code"], code.as_str());
        assert!(!lines[0].to_string().contains("ada"), "{lines:?}");
    }
    for (name, value) in [("authorization", "Bearer x"), ("authorization", "Basic YWRhOnA6dw==")] {
        let status = home.list(Some((name, value))).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}

/// A conversation that goes on for ever ends with the login that let it in.
#[tokio::test]
async fn calls_end_with_their_login() {
    let home = home(Security::none()).await;
    let by_hand: (fn(&Home), _) = (|home| home.logins.end("ada"), "taken back");
    let by_time: (fn(&Home), _) = (|home| home.clock.advance(LIFETIME), "has expired");
    for (end, why) in [by_hand, by_time] {
        let bearer = home.login().await;
        let first = FlightData {
            flight_descriptor: Some(FlightDescriptor::new_path(vec!["batches".to_owned()])),
            app_metadata: "hello".into(),
            ..FlightData::default()
        };
        let mut request = Request::new(stream::iter([first]).chain(stream::pending()));
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        let answers = home.client.clone().do_exchange(request).await.unwrap();
        let mut answers = answers.into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().app_metadata, "hello");
        end(&home);
        let ended = tokio::time::timeout(PATIENCE, answers.message()).await;
        let status = ended.unwrap_or_else(|_| panic!("{why}: the call goes on")).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        assert!(status.message().contains(why), "{status}");
        let status = home.list(Some(("authorization", &bearer))).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}

#[tokio::test]
async fn tokens_of_a_file_count_beside_logins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    std::fs::write(&path, "ci 0123456789abcdef\n").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let files = SecurityFiles { tokens: Some(path), ..SecurityFiles::default() };
    let home = home(Security::open(files, SystemClock::shared()).unwrap()).await;
    let bearer = home.login().await;
    for good in ["Bearer 0123456789abcdef", &bearer] {
        home.list(Some(("authorization", good))).await.unwrap();
    }
    let status = home.list(Some(("authorization", "Bearer 0123456789abcdeX"))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated);
}
