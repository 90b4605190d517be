//! Messages that name no schema, and files that have it.

use std::sync::Arc;

use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema};
use sheaf_testkit::{TempDir, wait_until};

use crate::harness::{Kafka, PATIENCE, run};

const AVRO: &str = r#"{"type":"record","name":"Order","fields":[{"name":"n","type":"int"}]}"#;
const ORDER: &str = r#"syntax = "proto3"; package shop;
import "geo/city.proto";
message Nothing {}
message Order { int32 n = 1; geo.City city = 2; }"#;
const CITY: &str = r#"syntax = "proto3"; package geo; message City { string name = 1; }"#;

fn put(folder: &TempDir, name: &str, content: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A file with these columns, and no rows.
fn columns(folder: &TempDir) -> String {
    let fields = [Field::new("n", DataType::Int16, true), Field::new("at", DataType::Utf8, true)];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let mut bytes = Vec::new();
    StreamWriter::try_new(&mut bytes, &schema).unwrap().finish().unwrap();
    put(folder, "columns.arrow", &bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_have_the_schemas_of_their_files() {
    let Some(kafka) = Kafka::start() else { return };
    let folder = TempDir::new().unwrap();
    let send = |topic: &str, value: &dyn Fn(u8) -> Vec<u8>| {
        kafka.produce(topic, (0..100).map(|n| (0, String::new(), Some(value(n)))));
    };
    for topic in ["avro", "proto", "json"] {
        kafka.create(topic, 1).await;
    }
    send("avro", &|n| if n < 64 { vec![2 * n] } else { vec![(2 * n) | 0x80, n >> 6] });
    send("proto", &|n| vec![8, n, 18, 5, 10, 3, b'U', b'l', b'm']);
    send("json", &|n| format!(r#"{{"n":{n},"more":true}}"#).into_bytes());
    let avro = put(&folder, "order.avsc", AVRO.as_bytes());
    let proto = put(&folder, "order.proto", ORDER.as_bytes());
    put(&folder, "geo/city.proto", CITY.as_bytes());
    let files = [
        format!("avro={avro}"),
        format!("proto={proto}#shop.Order"),
        format!("json={}", columns(&folder)),
    ];
    let files: Vec<&str> = files.iter().flat_map(|file| ["--schema", file]).collect();
    let gateway = kafka.gateway("avro,proto,json", &files);
    for topic in ["avro", "proto", "json"] {
        wait_until(PATIENCE, topic, || gateway.rows(topic, &[]).len() == 100).unwrap();
        let rows = gateway.rows(topic, &[]);
        let numbers = rows.iter().map(|row| row["n"].as_u64().unwrap());
        assert_eq!(numbers.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>(), "{topic}");
    }
    assert_eq!(gateway.rows("proto", &[])[7]["city"]["name"], "Ulm");
    let row = &gateway.rows("json", &[])[7];
    assert!(row.get("more").is_none() && row["at"].is_null(), "{row}");
}

#[test]
fn files_that_are_no_schema_are_named() {
    let folder = TempDir::new().unwrap();
    let fails = |file: &str, word: &str| {
        let (code, _, error) = run(&["serve", "--topics", "logs", "--port", "0", "--schema", file]);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(word), "{error}");
    };
    fails(&put(&folder, "a.txt", b"{}"), ".avsc");
    fails(&format!("other={}", put(&folder, "a.avsc", AVRO.as_bytes())), "--topics");
    fails("nowhere.avsc", "nowhere.avsc");
    fails(&put(&folder, "order.proto", ORDER.as_bytes()), "geo/city.proto");
    fails(&put(&folder, "b.arrow", b"not a schema"), "b.arrow");
    fails(&put(&folder, "b.avsc", b"{}"), "schema");
}
