//! etcd's JSON face, as far as tests need it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Who a server is, and whom it follows.
pub(super) struct Status {
    pub(super) member: u64,
    /// `0` where it knows none.
    pub(super) leader: u64,
}

pub(super) fn is_healthy(addr: SocketAddr) -> bool {
    ask(addr, "GET", "/health", "").is_ok_and(|answer| answer["health"] == "true")
}

pub(super) fn status(addr: SocketAddr) -> io::Result<Status> {
    let answer = ask(addr, "POST", "/v3/maintenance/status", "{}")?;
    // Numbers of 64 bits are strings in this format, and zero is left out.
    let number = |value: &Value| value.as_str().map_or(Some(0), |text| text.parse().ok());
    let status = number(&answer["header"]["member_id"]).zip(number(&answer["leader"]));
    let (member, leader) = status.ok_or_else(|| unexpected(&answer))?;
    Ok(Status { member, leader })
}

pub(super) fn put(addr: SocketAddr, key: &str, value: &[u8]) -> io::Result<()> {
    let body = json!({ "key": STANDARD.encode(key), "value": STANDARD.encode(value) });
    ask(addr, "POST", "/v3/kv/put", &body.to_string()).map(drop)
}

pub(super) fn get(addr: SocketAddr, key: &str) -> io::Result<Option<Vec<u8>>> {
    let body = json!({ "key": STANDARD.encode(key) });
    let answer = ask(addr, "POST", "/v3/kv/range", &body.to_string())?;
    let Some(found) = answer["kvs"].get(0) else { return Ok(None) };
    let value = found["value"].as_str().unwrap_or_default();
    STANDARD.decode(value).map(Some).map_err(|_| unexpected(&answer))
}

fn unexpected(answer: &Value) -> io::Error {
    io::Error::other(format!("etcd answered {answer}"))
}

/// One request, as HTTP/1.0: the answer ends with the connection and has no parts.
fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Value> {
    let mut stream = TcpStream::connect_timeout(&addr, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nhost: {addr}\r\ncontent-length: {length}");
    write!(stream, "{head}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.lines().next().is_some_and(|line| line.contains(" 200 ")) {
        return Err(io::Error::other(answer));
    }
    serde_json::from_str(body).map_err(io::Error::other)
}
