//! Messages that name their schema, and a registry that has it, or has not, or
//! lies, or is down.

use std::collections::BTreeSet;

use sheaf_testkit::{RegisteredSchema, RegistryFault, SchemaRegistry, wait_until};

use crate::harness::{Gateway, Kafka, PATIENCE, run};

const FIRST: &str = r#"{"type":"record","name":"Order","fields":[{"name":"n","type":"int"}]}"#;
const SECOND: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"n","type":"long"},{"name":"city","type":["null","string"],"default":null}]}"#;

/// A value with the header of a registry.
fn framed(id: u32, parts: &[&[u8]]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], &parts.concat()].concat()
}

/// An integer of Avro below 8,192.
fn number(n: u32) -> Vec<u8> {
    let zigzag = u8::try_from((2 * n) & 0x7f).unwrap();
    match u8::try_from((2 * n) >> 7).unwrap() {
        0 => vec![zigzag],
        high => vec![zigzag | 0x80, high],
    }
}

fn first(id: u32, n: u32) -> Vec<u8> {
    framed(id, &[&number(n)])
}

fn second(id: u32, n: u32) -> Vec<u8> {
    framed(id, &[&number(n), b"\x02\x06Ulm"])
}

/// Values for one partition, in order.
fn send(kafka: &Kafka, topic: &str, values: impl IntoIterator<Item = Vec<u8>>) {
    kafka.produce(topic, values.into_iter().map(|value| (0, String::new(), Some(value))));
}

fn numbers(gateway: &Gateway, topic: &str) -> Vec<u64> {
    let rows = gateway.rows(topic, &[]);
    rows.iter().map(|row| row["n"].as_u64().unwrap()).collect()
}

fn wait_for(gateway: &Gateway, topic: &str, rows: usize) {
    let what = format!("{rows} rows of {topic}");
    wait_until(PATIENCE, &what, || gateway.rows(topic, &[]).len() == rows).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_goes_on_with_the_next_version_of_its_schema() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("orders", 1).await;
    let registry = SchemaRegistry::start_with_login("me", "hunter2").unwrap();
    let one = registry.register("orders-value", RegisteredSchema::avro(FIRST));
    let two = registry.register("orders-value", RegisteredSchema::avro(SECOND));
    send(&kafka, "orders", (0..50).map(|n| first(one, n)));
    send(
        &kafka,
        "orders",
        (50..100).map(|n| if n % 2 == 0 { first(one, n) } else { second(two, n) }),
    );
    // Of nobody: nothing but its header, and an id that nobody gave.
    send(&kafka, "orders", [framed(77, &[])]);
    send(&kafka, "orders", [second(two, 100)]);
    let url = registry.url();
    let login = ["--schema-registry", &url, "--schema-registry-auth", "me:hunter2"];
    let gateway = kafka.gateway("orders", &login);
    wait_for(&gateway, "orders", 101);
    assert_eq!(numbers(&gateway, "orders"), (0..=100).collect::<Vec<_>>());
    let rows = gateway.rows("orders", &["--where", "city = 'Ulm'"]);
    assert_eq!(rows.len(), 26);
    wait_for(&gateway, "orders.dead-letters", 1);
    let dead = &gateway.rows("orders.dead-letters", &[])[0];
    assert_eq!(dead["_offset"].as_u64(), Some(100), "{dead}");
    assert!(dead["error"].as_str().unwrap().contains("Schema not found"), "{dead}");
    assert!(dead.to_string().contains(&hex(&framed(77, &[]))), "{dead}");
    assert!(!gateway.process.stderr().contains("hunter2"), "a password is in the log");
}

/// As bytes are shown in JSON.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_has_the_files_that_it_imports() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("places", 1).await;
    kafka.create("events", 1).await;
    let registry = SchemaRegistry::start().unwrap();
    let city = r#"syntax = "proto3"; package geo; message City { string name = 1; }"#;
    registry.register("geo/city.proto", RegisteredSchema::protobuf(city));
    let place = r#"syntax = "proto3"; import "geo/city.proto";
        message Place { int64 n = 1; geo.City city = 2; }"#;
    let place = RegisteredSchema::protobuf(place).referring("geo/city.proto", "geo/city.proto", 1);
    let place = registry.register("places-value", place);
    let json = registry.register("events-value", RegisteredSchema::json(r#"{"type":"object"}"#));
    // Field 1 is n; field 2 a message with field 1, a text.
    send(&kafka, "places", (0..100).map(|n| framed(place, &[&[0, 8, n, 18, 5, 10, 3], b"Ulm"])));
    let event = |n: u8| framed(json, &[format!(r#"{{"n":{n}}}"#).as_bytes()]);
    send(&kafka, "events", (0..100).map(event));
    let gateway = kafka.gateway("places,events", &["--schema-registry", &registry.url()]);
    wait_for(&gateway, "places", 100);
    wait_for(&gateway, "events", 100);
    assert_eq!(numbers(&gateway, "places"), (0..100).collect::<Vec<_>>());
    assert_eq!(numbers(&gateway, "events"), (0..100).collect::<Vec<_>>());
    let rows = gateway.rows("places", &["--limit", "1"]);
    assert_eq!(rows[0]["city"]["name"], "Ulm", "{}", rows[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_down_messages_wait() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("orders", 1).await;
    let mut registry = SchemaRegistry::start().unwrap();
    let id = registry.register("orders-value", RegisteredSchema::avro(FIRST));
    registry.stop();
    send(&kafka, "orders", (0..3_000).map(|n| first(id, n)));
    let start = || kafka.gateway("orders", &["--schema-registry", &registry.url()]);
    let waits = |gateway: &Gateway| gateway.process.stderr().contains("messages wait");
    let mut gateway = start();
    wait_until(PATIENCE, "a warning", || waits(&gateway)).unwrap();
    // Nothing was committed: the next one has all of them.
    assert!(gateway.process.terminate(PATIENCE).unwrap().success());
    let gateway = start();
    wait_until(PATIENCE, "a warning", || waits(&gateway)).unwrap();
    assert_eq!(gateway.rows("orders", &[]).len(), 0);
    assert_eq!(gateway.process.stderr().matches("messages wait").count(), 1);
    registry.restart().unwrap();
    wait_for(&gateway, "orders", 3_000);
    assert_eq!(numbers(&gateway, "orders"), (0..3_000).collect::<Vec<_>>());
    assert!(gateway.rows("orders.dead-letters", &[]).is_empty());
}

/// What it says is nonsense, then a lie, then true: every message is a row or a
/// dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_costs_dead_letters_and_no_message() {
    let Some(kafka) = Kafka::start() else { return };
    kafka.create("orders", 1).await;
    let registry = SchemaRegistry::start().unwrap();
    let id = registry.register("orders-value", RegisteredSchema::avro(FIRST));
    let other = registry.register("orders-value", RegisteredSchema::avro(SECOND));
    registry.fault(RegistryFault::Body(b"<html>".to_vec()));
    send(&kafka, "orders", (0..20).map(|n| first(id, n)));
    let gateway = kafka.gateway("orders", &["--schema-registry", &registry.url()]);
    wait_for(&gateway, "orders.dead-letters", 20);
    // Everything but a record of one number.
    registry.fault(RegistryFault::Schema(FIRST.replace("\"int\"", "\"string\"")));
    send(&kafka, "orders", (20..40).map(|n| second(other, n)));
    wait_for(&gateway, "orders.dead-letters", 40);
    registry.heal();
    // Others that it was not asked for yet.
    let third = RegisteredSchema::avro(FIRST.replace("\"int\"", "\"long\""));
    let third = registry.register("orders-value", third);
    send(&kafka, "orders", (40..60).map(|n| first(third, n)));
    wait_for(&gateway, "orders", 20);
    let dead = gateway.rows("orders.dead-letters", &[]);
    let rows = gateway.rows("orders", &[]);
    let offset = |row: &serde_json::Value| row["_offset"].as_u64().unwrap();
    let offsets: BTreeSet<u64> = rows.iter().chain(&dead).map(offset).collect();
    assert_eq!(offsets, (0..60).collect());
    assert!(!gateway.process.stderr().contains("panicked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_shows_a_password() {
    let serve = ["serve", "--topics", "orders", "--schema-registry"];
    for (url, auth) in [
        ("http://me:hunter2@localhost:8081", "me:hunter2"),
        ("hunter2://x", "hunter2"),
        ("http://localhost:8081", "hunter2"),
    ] {
        let (code, _, error) = run(&[&serve[..], &[url, "--schema-registry-auth", auth]].concat());
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains("schema-registry") || error.contains("schema registry"), "{error}");
        assert!(!error.contains("me:hunter2"), "{error}");
    }
}
