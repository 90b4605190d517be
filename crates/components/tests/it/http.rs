//! Addresses, asked and called.

use std::sync::Arc;

use serde_json::{Value, json};
use sheaf_components::Host;
use sheaf_dataflow::{Source, Start};
use sheaf_retry::{Clock as _, Code, ManualClock, Retryable as _, Timestamp};

use crate::common::{numbers, received, sink_of, source, source_of, start};
use crate::server::{Answer, HttpServer, ok};

fn config(server: &HttpServer) -> Value {
    json!({"url": server.url("/rows"), "every": "10ms", "rowsAt": "/data/items"})
}

fn rows(range: std::ops::Range<i64>) -> String {
    let items: Vec<_> = range.map(|n| json!({"n": n, "text": format!("row {n}")})).collect();
    json!({"data": {"items": items}}).to_string()
}

async fn next(source: &mut dyn Source) -> Vec<i64> {
    numbers(&[source.next().await.unwrap().unwrap()], "n")
}

#[tokio::test]
async fn an_answer_is_read_again_only_when_it_has_changed_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpServer::start(|number, asked| {
        let tag = if number < 4 { "\"a\"" } else { "\"b\"" };
        if asked.header("if-none-match") == Some(tag) {
            return Answer(304, Vec::new(), String::new());
        }
        let body = if number < 4 { rows(0..3) } else { rows(3..5) };
        Answer(200, vec![("etag", tag.to_owned())], body)
    });
    let mut first = source("http", config(&server), start(dir.path())).await;
    let made = first.next().await.unwrap().unwrap();
    assert_eq!(numbers(std::slice::from_ref(&made), "n"), [0, 1, 2]);
    assert_eq!(next(first.as_mut()).await, [3, 4]);
    let asked = server.asked();
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[0].line, "GET /rows HTTP/1.1");
    assert!(asked[1..].iter().all(|asked| asked.header("if-none-match") == Some("\"a\"")));

    let start = Start { offset: Some(made.offset), ..start(dir.path()) };
    let mut second = source("http", config(&server), start).await;
    assert_eq!(next(second.as_mut()).await, [3, 4]);
}

#[tokio::test]
async fn a_long_answer_is_gone_on_with_where_it_was_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpServer::start(|_, _| ok(rows(0..20_000)));
    let mut whole = source("http", config(&server), start(dir.path())).await;
    let first = whole.next().await.unwrap().unwrap();
    let start = Start { offset: Some(first.offset.clone()), ..start(dir.path()) };
    let mut rest = source("http", config(&server), start).await;
    let mut seen = numbers(&[first], "n");
    while seen.len() < 20_000 {
        seen.extend(next(rest.as_mut()).await);
    }
    assert_eq!(seen, (0..20_000).collect::<Vec<_>>());
    // What comes after it is the next answer.
    assert_eq!(next(rest.as_mut()).await[0], 0);
}

#[tokio::test]
async fn every_format_is_read_and_an_answer_without_rows_gives_none() {
    let dir = tempfile::tempdir().unwrap();
    for (format, bodies) in
        [("csv", ["", "n\n7\n"]), ("json", ["[]", "[{\"n\":7}]"]), ("json", ["\n", "{\"n\":7}\n"])]
    {
        let server = HttpServer::start(move |number, _| ok(bodies[number.min(1)]));
        let config = json!({"url": server.url("/"), "every": "10ms", "format": format});
        let mut source = source("http", config, start(dir.path())).await;
        assert_eq!(next(source.as_mut()).await, [7]);
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn it_asks_no_more_often_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpServer::start(|_, _| ok(rows(0..1)));
    let clock = ManualClock::auto(Timestamp::EPOCH);
    let host = Host { clock: clock.clone(), ..Host::plain() };
    let mut config = config(&server);
    config["every"] = "30s".into();
    let mut source = source_of("http", config, start(dir.path()), &host).await.unwrap();
    let begun = clock.elapsed();
    for _ in 0..3 {
        next(source.as_mut()).await;
    }
    let took = (clock.elapsed() - begun).as_secs();
    assert!((60..61).contains(&took), "{took} s");
}

#[tokio::test]
async fn what_cannot_be_read_says_why_and_whether_it_passes() {
    let dir = tempfile::tempdir().unwrap();
    for (answer, code, expected) in [
        (503, Code::Unavailable, "503"),
        (429, Code::Unavailable, "429"),
        (401, Code::Unauthenticated, "401"),
        (302, Code::FailedPrecondition, "the address that it leads to"),
        (200, Code::MalformedData, "nothing at /data/items"),
    ] {
        let server = HttpServer::start(move |_, _| Answer(answer, Vec::new(), "{}".into()));
        let mut source = source("http", config(&server), start(dir.path())).await;
        let error = source.next().await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let server = HttpServer::start(|_, _| ok(rows(0..1_000)));
    let mut small = config(&server);
    small["maxBytes"] = "1KB".into();
    let error = source("http", small, start(dir.path())).await.next().await.unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert!(error.to_string().contains("config.maxBytes"), "{error}");
}

#[tokio::test]
async fn secrets_go_to_the_server_and_into_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpServer::start(|_, _| Answer(500, Vec::new(), String::new()));
    let host = Host { environment: Arc::new(|_| Some("hunter2".into())), ..Host::plain() };
    let url = server.url("/rows?key=hunter2");
    let headers = json!({"authorization": {"env": "TOKEN"}});
    let config = json!({"url": url, "every": "10ms", "headers": headers});
    let mut source = source_of("http", config.clone(), start(dir.path()), &host).await.unwrap();
    let error = source.next().await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert_eq!(server.asked()[0].header("authorization"), Some("hunter2"));

    let several = Start { replicas: 2, ..start(dir.path()) };
    let error = source_of("http", config, several, &host).await.err().unwrap();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[tokio::test]
async fn a_sink_calls_with_each_batch_and_the_same_key_when_it_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = HttpServer::start(|number, _| {
        Answer(if number == 1 { 503 } else { 204 }, Vec::new(), String::new())
    });
    let headers = json!({"x-from": "sheaf"});
    let config = json!({"url": server.url("/hook"), "method": "PUT", "headers": headers});
    let mut sink = sink_of("http", config, dir.path(), &Host::plain()).await.unwrap();
    assert_eq!(sink.write(&received(1, 0, 1)).await.unwrap(), 1);
    let second = received(2, 1, 2);
    let error = sink.write(&second).await.unwrap_err();
    assert_eq!((error.code(), sink.flush().await.unwrap()), (Code::Unavailable, 1));
    assert_eq!(sink.write(&second).await.unwrap(), 2);
    assert_eq!(sink.write(&received(3, 0, 0)).await.unwrap(), 3);

    let asked = server.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].line, "PUT /hook HTTP/1.1");
    let body = "{\"n\":1,\"text\":\"row 1\"}\n{\"n\":2,\"text\":\"row 2\"}\n";
    assert_eq!(String::from_utf8(asked[2].body.clone()).unwrap(), body);
    assert_eq!(asked[2].header("content-type"), Some("application/x-ndjson"));
    assert_eq!(asked[2].header("x-from"), Some("sheaf"));
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert!(keys[0] != keys[1] && keys[1] == keys[2], "{keys:?}");
}
