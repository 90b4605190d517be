//! Topics of a real broker.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_dataflow::Source;
use sheaf_retry::{Code, Retryable as _};
use sheaf_testkit::KafkaBroker;

use crate::common::{numbers, received, sink_of, source, source_of, start};

/// How long a broken test hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic of its own on a broker that others may have too.
fn topic(name: &str) -> String {
    format!("components-{name}-{}", std::process::id())
}

async fn write(broker: &KafkaBroker, topic: &str, format: &str, numbers: std::ops::Range<u64>) {
    let config = json!({
        "brokers": [broker.bootstrap()], "topic": topic, "format": format,
        "key": (format == "json").then_some("text"),
    });
    let mut sink = sink_of("kafka", config, Path::new("/"), &Host::plain()).await.unwrap();
    for (done, number) in (1..).zip(numbers) {
        let first = i64::try_from(number).unwrap() * 10;
        assert_eq!(sink.write(&received(number, first, 10)).await.unwrap(), done);
    }
}

fn config(broker: &KafkaBroker, topic: &str, format: &str) -> Value {
    json!({
        "brokers": [broker.bootstrap()], "topics": [topic], "format": format,
        "group": format!("{topic}-group"), "batchRows": 7, "batchWait": "20ms",
    })
}

/// So many rows, and the offsets of their batches.
async fn read(source: &mut dyn Source, rows: usize) -> (Vec<i64>, Vec<bytes::Bytes>) {
    let (mut seen, mut offsets) = (Vec::new(), Vec::new());
    while seen.len() < rows {
        let next = tokio::time::timeout(PATIENCE, source.next()).await;
        let made = next.unwrap_or_else(|_| panic!("only {} rows came", seen.len()));
        let made = made.unwrap().unwrap();
        offsets.push(made.offset.clone());
        seen.extend(numbers(&[made], "n"));
    }
    (seen, offsets)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_does_not_come_again_and_all_else_does() {
    let Some(broker) = KafkaBroker::start().unwrap() else { return };
    let topic = topic("again");
    write(&broker, &topic, "json", 0..5).await;
    let config = config(&broker, &topic, "json");
    let mut first = source("kafka", config.clone(), start(Path::new("/"))).await;
    let (seen, offsets) = read(first.as_mut(), 50).await;
    assert_eq!(seen.iter().copied().collect::<BTreeSet<_>>(), (0..50).collect());
    assert_eq!(seen.len(), 50);
    // Nothing was acknowledged: a process that dies now has taken nothing.
    drop(first);
    let mut second = source("kafka", config.clone(), start(Path::new("/"))).await;
    // What the process before it handed on means nothing to this one.
    second.acknowledged(offsets.last().unwrap()).await.unwrap();
    let (again, offsets) = read(second.as_mut(), 50).await;
    assert_eq!(again.into_iter().collect::<BTreeSet<_>>(), (0..50).collect());
    second.acknowledged(offsets.last().unwrap()).await.unwrap();
    write(&broker, &topic, "json", 5..6).await;
    let (next, offsets) = read(second.as_mut(), 10).await;
    assert_eq!(next.into_iter().collect::<BTreeSet<_>>(), (50..60).collect());
    second.acknowledged(offsets.last().unwrap()).await.unwrap();
    drop(second);

    write(&broker, &topic, "json", 6..7).await;
    let mut third = source("kafka", config, start(Path::new("/"))).await;
    let (rest, _) = read(third.as_mut(), 10).await;
    assert!(rest.contains(&60), "{rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_arrow_comes_back_as_it_went() {
    let Some(broker) = KafkaBroker::start().unwrap() else { return };
    let topic = topic("arrow");
    write(&broker, &topic, "arrow", 0..2).await;
    let mut source = source("kafka", config(&broker, &topic, "arrow"), start(Path::new("/"))).await;
    let (seen, _) = read(source.as_mut(), 20).await;
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (0..20).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_say_what_is_wrong() {
    for (more, expected) in [
        (json!({"security": {"username": "me"}}), "need the mechanism"),
        (json!({"security": {"mechanism": "plain"}}), "needs username and password"),
        (json!({"security": {"caFile": "x.pem"}}), "set `tls: true`"),
        (json!({"schemaFile": "/nowhere/x.avsc"}), "config.schemaFile: "),
    ] {
        let mut config = json!({"brokers": ["127.0.0.1:1"], "topics": ["x"]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let opened = source_of("kafka", config, start(Path::new("/")), &Host::plain()).await;
        let error = opened.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let config = json!({"brokers": ["127.0.0.1:1"], "topic": "x", "key": "n", "format": "arrow"});
    let error = sink_of("kafka", config, Path::new("/"), &Host::plain()).await.err().unwrap();
    assert!(error.to_string().starts_with("config.key"), "{error}");
}
