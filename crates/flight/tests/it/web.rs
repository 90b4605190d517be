//! Actions over HTTP/1.1 and JSON on the port of gRPC.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use sheaf_flight::{ActionHandler, CallContext, CallOptions, Error, Limits, RouterBuilder};
use sheaf_retry::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::guarded::{Guarded, token};
use crate::support::World;

/// Who waits longer waits for ever.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

const JSON: &str = "Content-Type: application/json\r\n";

/// One connection of a client that knows no HTTP/2.
struct Client {
    stream: TcpStream,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Client { stream: TcpStream::connect(address).await.unwrap() }
    }

    async fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {length}\r\n");
        self.stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        self.answer().await
    }

    async fn ask(&mut self, body: &Value) -> (u16, Value) {
        self.send("POST", "/api/flight/do_action", JSON, &body.to_string()).await
    }

    /// The next answer: its status and its JSON.
    async fn answer(&mut self) -> (u16, Value) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.split("content-length: ").nth(1).unwrap();
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

fn code(value: &Value) -> &str {
    value["error"]["code"].as_str().unwrap()
}

#[tokio::test]
async fn actions_are_listed_and_run_on_one_connection_as_on_grpc() {
    let world = World::new().await;
    let mut client = Client::connect(world.handle.local_addr()).await;
    let (status, listed) = client.ask(&json!({ "type": "list_actions" })).await;
    assert_eq!(status, 200);
    let actions = listed["actions"].as_array().unwrap();
    let over_grpc = world.connection.actions(&Default::default()).await.unwrap();
    assert_eq!(actions.len(), over_grpc.len(), "{listed}");
    assert!(actions.iter().any(|one| one["type"] == "Echo"), "{listed}");

    let body = json!({ "a": [1, null], "b": "ä" });
    let (status, answer) = client.ask(&json!({ "type": "Echo", "body": body })).await;
    assert_eq!((status, &answer), (200, &json!({ "results": [body, body] })));
    let (_, answer) = client.ask(&json!({ "type": "Echo", "body": "plain text" })).await;
    assert_eq!(answer["results"][0], "plain text");
    let (_, answer) = client.ask(&json!({ "type": "Echo", "body_base64": "/wAB" })).await;
    assert_eq!(answer["results"][0], json!({ "base64": "/wAB" }));

    let headers = format!("{JSON}X-Test: passed\r\nConnection: close\r\n");
    let asked = json!({ "type": "Header" }).to_string();
    let (_, answer) = client.send("POST", "/api/flight/do_action", &headers, &asked).await;
    assert_eq!(answer["results"][0], "passed");
    let counted = r#"sheaf_flight_requests_total{method="DoAction",code="ok"}"#;
    assert_eq!(world.metric(counted), 4, "counted like calls of gRPC");
}

#[tokio::test]
async fn an_answer_of_a_megabyte_arrives() {
    let world = World::with(Limits { max_action_bytes: 4 << 20, ..Limits::default() }).await;
    let mut client = Client::connect(world.handle.local_addr()).await;
    for length in [16 << 10, 17 << 10, 1 << 20] {
        let body = "x".repeat(length);
        let asked = json!({ "type": "Echo", "body": body });
        let answered = tokio::time::timeout(PATIENCE, client.ask(&asked)).await;
        let (status, answer) = answered.unwrap_or_else(|_| panic!("{length} bytes never came"));
        assert_eq!((status, answer["results"][0].as_str()), (200, Some(body.as_str())));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_with_a_code_and_a_status() {
    let world = World::with(Limits { max_action_bytes: 2_000, ..Limits::default() }).await;
    let mut client = Client::connect(world.handle.local_addr()).await;
    let (status, answer) = client.ask(&json!({ "type": "Nothing" })).await;
    assert_eq!((status, code(&answer)), (501, "unimplemented"), "{answer}");
    let (status, answer) = client.ask(&json!({ "type": "Flaky" })).await;
    assert_eq!((status, code(&answer)), (503, "unavailable"), "{answer}");
    for wrong in ["", "{", "[]", "{}", r#"{"type": 1}"#, r#"{"type": "Echo", "bdy": 1}"#] {
        let (status, answer) = client.send("POST", "/api/flight/do_action", JSON, wrong).await;
        assert_eq!((status, code(&answer)), (400, "invalid_argument"), "{wrong}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("list_actions"), "{answer}");
    }
    let (status, answer) = client.send("GET", "/api/flight/do_action", JSON, "").await;
    assert_eq!((status, code(&answer)), (405, "invalid_argument"), "{answer}");
    let (status, answer) = client.send("POST", "/", JSON, "{}").await;
    assert_eq!((status, code(&answer)), (404, "not_found"), "{answer}");
    let long = json!({ "type": "Echo", "body": "x".repeat(3_000) });
    let (status, answer) = client.ask(&long).await;
    assert_eq!((status, code(&answer)), (413, "limit_exceeded"), "{answer}");
    let mut client = Client::connect(world.handle.local_addr()).await;
    let long = json!({ "type": "Echo", "body": "x".repeat(30_000) });
    let (status, answer) = client.ask(&long).await;
    assert_eq!((status, code(&answer)), (413, "limit_exceeded"), "{answer}");
}

/// What servers call among themselves.
struct Peers;

#[async_trait::async_trait]
impl ActionHandler for Peers {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![("peers.vote", "for other servers")]
    }

    fn has_json(&self) -> bool {
        false
    }

    async fn call(&self, _: &CallContext, _: &str, body: Bytes) -> Result<Vec<Bytes>, Error> {
        Ok(vec![body])
    }
}

#[tokio::test]
async fn what_servers_call_among_themselves_is_not_answered_as_json() {
    let more = |router: RouterBuilder| router.actions(Arc::new(Peers));
    let clock = SystemClock::shared();
    let world = World::build(clock, Limits::default(), more, |server| server).await;
    let mut client = Client::connect(world.handle.local_addr()).await;
    let (status, answer) = client.ask(&json!({ "type": "peers.vote", "body": "b" })).await;
    assert_eq!((status, code(&answer)), (403, "permission_denied"), "{answer}");
    let options = CallOptions::default();
    let answer = world.connection.action("peers.vote", "b".into(), &options).await.unwrap();
    assert_eq!(answer, ["b"], "gRPC has it");
}

#[tokio::test]
async fn pages_of_browsers_are_kept_out() {
    let world = World::new().await;
    let mut client = Client::connect(world.handle.local_addr()).await;
    let (path, asked) = ("/api/flight/do_action", r#"{"type": "Echo"}"#);
    let origin = format!("{JSON}Origin: http://evil.example\r\n");
    let (status, answer) = client.send("POST", path, &origin, asked).await;
    assert_eq!((status, code(&answer)), (403, "permission_denied"), "{answer}");
    let (status, answer) = client.send("POST", path, "Content-Type: text/plain\r\n", asked).await;
    assert_eq!((status, code(&answer)), (400, "invalid_argument"), "{answer}");
    let (status, _) = client.send("OPTIONS", path, &origin, "").await;
    assert_eq!(status, 405);
}

#[tokio::test]
async fn it_needs_the_token_that_grpc_needs() {
    let guarded = Guarded::new(&[("all", "")], false).await;
    let mut client = Client::connect(guarded.handle.local_addr()).await;
    let (path, asked) = ("/api/flight/do_action", r#"{"type": "Echo", "body": "b"}"#);
    let (status, answer) = client.send("POST", path, JSON, asked).await;
    assert_eq!((status, code(&answer)), (401, "unauthenticated"), "{answer}");
    let headers = format!("{JSON}Authorization: Bearer {}\r\n", token("all"));
    let (status, answer) = client.send("POST", path, &headers, asked).await;
    assert_eq!((status, &answer["results"][0]), (200, &json!("b")), "{answer}");
}

#[tokio::test]
async fn a_port_that_drains_lets_go_of_idle_connections() {
    let world = World::new().await;
    let mut client = Client::connect(world.handle.local_addr()).await;
    client.ask(&json!({ "type": "Echo", "body": "b" })).await;
    let drained = world.handle.drain(std::time::Duration::from_secs(30)).await;
    assert!(drained.cut.is_empty(), "{drained:?}");
    assert_eq!(client.stream.read(&mut [0]).await.unwrap_or(0), 0, "closed");
}
