//! The schema registry, as a client sees it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use sheaf_testkit::{RegisteredSchema, RegistryFault, SchemaRegistry};

/// One request over a connection of its own: status and body.
fn send(addr: SocketAddr, head: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let length = body.len();
    write!(
        stream,
        "{head}\r\nhost: registry\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    let (head, body) = match answer.split_once("\r\n\r\n") {
        Some(parts) => parts,
        None => return Err(read.err().unwrap_or(std::io::ErrorKind::UnexpectedEof.into())),
    };
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    if field("content-length: ").is_some_and(|length| length.trim() != body.len().to_string()) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or_default(), body.to_owned()))
}

fn get(registry: &SchemaRegistry, path: &str) -> (u16, Value) {
    let (status, body) = send(registry.addr(), &format!("GET {path} HTTP/1.1"), "").unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn post(registry: &SchemaRegistry, path: &str, body: &Value) -> (u16, Value) {
    let head = format!("POST {path} HTTP/1.1");
    let (status, body) = send(registry.addr(), &head, &body.to_string()).unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn what_is_registered_is_answered_as_confluent_does() {
    let registry = SchemaRegistry::start().unwrap();
    let avro = json!({"schema": "{\"type\": \"string\"}"});
    assert_eq!(post(&registry, "/subjects/a-value/versions", &avro), (200, json!({"id": 1})));
    assert_eq!(post(&registry, "/subjects/a-value/versions", &avro), (200, json!({"id": 1})));
    // Avro is what it is when nothing is said, in both directions.
    assert_eq!(get(&registry, "/schemas/ids/1"), (200, avro.clone()));
    assert_eq!(get(&registry, "/schemas/ids/1/schema"), (200, json!({"type": "string"})));

    let base = json!({"schemaType": "PROTOBUF", "schema": "message Base {}"});
    assert_eq!(post(&registry, "/subjects/base%2Eproto/versions", &base).1, json!({"id": 2}));
    let reference = json!({"name": "base.proto", "subject": "base.proto", "version": 1});
    let user = json!({
        "schemaType": "PROTOBUF",
        "schema": "import \"base.proto\"; message User {}",
        "references": [reference],
    });
    assert_eq!(post(&registry, "/subjects/b-value/versions", &user).1, json!({"id": 3}));
    assert_eq!(get(&registry, "/schemas/ids/3"), (200, user.clone()));

    let (status, latest) = get(&registry, "/subjects/b-value/versions/latest");
    let place = (&latest["subject"], &latest["version"], &latest["id"]);
    assert_eq!((status, place), (200, (&json!("b-value"), &json!(1), &json!(3))));
    assert_eq!(latest["references"], json!([reference]));
    assert_eq!(post(&registry, "/subjects/b-value", &user), (200, latest));
    assert_eq!(get(&registry, "/subjects"), (200, json!(["a-value", "b-value", "base.proto"])));
    assert_eq!(get(&registry, "/subjects/a-value/versions"), (200, json!([1])));
    let places = json!([{"subject": "base.proto", "version": 1}]);
    assert_eq!(get(&registry, "/schemas/ids/2/versions"), (200, places));
    assert_eq!(registry.requests()[0], "POST /subjects/a-value/versions");
}

#[test]
fn compiled_protobuf_comes_as_the_test_gave_it() {
    let registry = SchemaRegistry::start().unwrap();
    let plain = registry.register("a", RegisteredSchema::protobuf("message A {}"));
    let schema = RegisteredSchema::protobuf("message B {}").compiled([1, 2, 3]);
    let compiled = registry.register("b", schema);
    let path = |id| format!("/schemas/ids/{id}?format=serialized");
    let (status, body) = get(&registry, &path(compiled));
    assert_eq!((status, &body["schema"]), (200, &json!("AQID")));
    assert_eq!(get(&registry, &path(plain)).0, 422);
}

#[test]
fn refusals_have_a_code_and_a_message() {
    let registry = SchemaRegistry::start().unwrap();
    for (path, code) in [
        ("/schemas/ids/7", 40403),
        ("/schemas/ids/seven", 40403),
        ("/subjects/a/versions", 40401),
        ("/subjects/a/versions/1", 40401),
        ("/nothing", 404),
    ] {
        let (status, body) = get(&registry, path);
        assert_eq!((status, &body["error_code"]), (404, &json!(code)), "{path}");
        assert!(body["message"].is_string());
    }
    let broken = json!({"schema": "{\"type\":"});
    let (status, body) = post(&registry, "/subjects/a/versions", &broken);
    assert_eq!((status, &body["error_code"]), (422, &json!(42201)));
}

#[test]
fn a_login_is_asked_for() {
    let registry = SchemaRegistry::start_with_login("sheaf", "secret").unwrap();
    assert_eq!(get(&registry, "/subjects").0, 401);
    let ask = |login: &str| {
        let head = format!("GET /subjects HTTP/1.1\r\nauthorization: Basic {login}");
        send(registry.addr(), &head, "").unwrap().0
    };
    assert_eq!(ask("c2hlYWY6c2VjcmV0"), 200);
    assert_eq!(ask("c2hlYWY6cHVibGlj"), 401);
}

#[test]
fn it_fails_in_every_way_and_heals() {
    let registry = SchemaRegistry::start().unwrap();
    let id = registry.register("a", RegisteredSchema::avro("\"string\""));
    let path = format!("/schemas/ids/{id}");
    let ask = || send(registry.addr(), &format!("GET {path} HTTP/1.1"), "");
    let good = ask().unwrap();

    registry.fault(RegistryFault::Status(503));
    assert_eq!(ask().unwrap().0, 503);
    registry.fault(RegistryFault::Body(b"<html>".to_vec()));
    assert_eq!(ask().unwrap(), (200, "<html>".into()));
    registry.fault(RegistryFault::Schema("\"int\"".into()));
    assert_eq!(get(&registry, &path).1, json!({"schema": "\"int\""}));
    assert_eq!(get(&registry, "/subjects").1, json!(["a"]));
    registry.fault(RegistryFault::Truncated);
    assert!(ask().is_err());
    registry.fault(RegistryFault::Hang);
    assert!(ask().is_err());
    registry.fault(RegistryFault::Delay(Duration::from_millis(50)));
    assert_eq!(ask().unwrap(), good);
    registry.heal();
    assert_eq!(ask().unwrap(), good);
}

#[test]
fn it_comes_back_on_its_port_with_its_schemas() {
    let mut registry = SchemaRegistry::start().unwrap();
    registry.register("a", RegisteredSchema::json("{}"));
    // One that stays open must not keep the port.
    let idle = TcpStream::connect(registry.addr()).unwrap();
    let before = get(&registry, "/schemas/ids/1");
    registry.stop();
    assert!(TcpStream::connect(registry.addr()).is_err(), "still listening");
    registry.restart().unwrap();
    assert_eq!(get(&registry, "/schemas/ids/1"), before);
    registry.restart().unwrap();
    assert_eq!(get(&registry, "/schemas/ids/1"), before);
    drop(idle);
}
