//! What is refused is in the log, once, and no token is.

use std::time::Duration;

use arrow_flight::{Action, Ticket};
use bytes::Bytes;
use futures::StreamExt as _;
use sheaf_flight::{CallOptions, Limits};
use sheaf_retry::{Code, RetryPolicy, Retryable as _};

use crate::guarded::{AuditLog, Guarded};

fn once() -> CallOptions {
    CallOptions::default().retry(RetryPolicy::none())
}

#[tokio::test]
async fn a_refused_call_is_a_line_with_everything_but_the_token() {
    let (log, _guard) = AuditLog::capture();
    let lines = [("reader", "allow=batches:r calls=1"), ("old", "expires=1960-01-01T00:00:00Z")];
    let server = Guarded::new(&lines, false).await;
    let mut refused = Vec::new();
    let peer = |line: &serde_json::Value| line["peer"].as_str().unwrap().to_owned();

    let action = |name: &str| Action { r#type: name.to_owned(), body: Bytes::new() };
    let mut reader = server.raw("reader").await;
    reader.do_action(action("Turn")).await.unwrap_err();
    reader.do_action(action("Look")).await.unwrap_err();
    server.raw("old").await.do_action(action("Look")).await.unwrap_err();
    let nowhere = "x\"\nWARN forged".to_owned() + &"y".repeat(1_000);
    reader.do_get(Ticket { ticket: format!("{nowhere}/a").into() }).await.unwrap_err();
    server.raw("unknown").await.do_get(Ticket::default()).await.unwrap_err();
    let mut held = server.ours("reader").get("batches/endless", &once()).await.unwrap();
    held.next().await.unwrap().unwrap();
    reader.do_get(Ticket { ticket: "batches/endless".into() }).await.unwrap_err();
    server.exchange(&[("reader", "allow=other:r")]);
    let ended: Vec<_> = held.filter_map(|item| async { item.err() }).collect().await;
    assert_eq!(ended[0].code(), Code::PermissionDenied, "{ended:?}");

    for line in log.take() {
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["left_out"], 0);
        assert!(peer(&line).starts_with("127.0.0.1:"), "{line}");
        assert!(!line.to_string().contains("0123456789abcdef"), "{line}");
        assert!(line.to_string().len() < 2_000, "{line}");
        let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
        refused.push(["method", "token", "namespace", "code"].map(text).join(" "));
    }
    let clipped = format!("DoGet reader {} permission_denied", &nowhere[..100]);
    let expected = [
        "DoAction reader tools permission_denied",
        "DoAction reader tools permission_denied",
        "DoAction - - unauthenticated",
        &clipped,
        "DoGet - - unauthenticated",
        "DoGet reader - overloaded",
        "DoGet reader - permission_denied",
    ];
    assert_eq!(refused, expected);
}

#[tokio::test]
async fn limits_of_server_peer_and_connections_are_told() {
    let (log, _guard) = AuditLog::capture();
    for (limits, what) in [
        (Limits { max_calls: 1, ..Limits::default() }, "max_calls "),
        (Limits { max_calls_per_peer: 1, ..Limits::default() }, "max_calls_per_peer"),
        (Limits { max_connections: 1, ..Limits::default() }, "max_connections"),
    ] {
        let server = Guarded::with(&[("a", "")], false, limits).await;
        let mut held = server.ours("a").get("batches/endless", &once()).await.unwrap();
        held.next().await.unwrap().unwrap();
        let error = server.ours("a").get("batches/endless", &once()).await.err().unwrap();
        let connection = what == "max_connections";
        let code = if connection { Code::Unavailable } else { Code::Overloaded };
        assert_eq!(error.code(), code, "{error}");
        let lines = log.take();
        let line = lines.first().unwrap_or_else(|| panic!("no line for {what}"));
        assert_eq!(line["code"], "overloaded");
        assert!(line["reason"].as_str().unwrap().contains(what), "{line}");
        assert_eq!(line["method"], if connection { "connect" } else { "DoGet" });
        assert_eq!(line["token"].as_str(), (!connection).then_some("a"));
    }
}

#[tokio::test]
async fn a_flood_is_cut_and_counted_and_hides_no_other_code() {
    let (log, _guard) = AuditLog::capture();
    let server = Guarded::new(&[("reader", "allow=batches:r")], false).await;
    let mut stranger = server.raw("stranger").await;
    for _ in 0..50 {
        stranger.do_get(Ticket::default()).await.unwrap_err();
    }
    let mut reader = server.raw("reader").await;
    let turn = || Action { r#type: "Turn".to_owned(), body: Bytes::new() };
    reader.do_action(turn()).await.unwrap_err();
    let count = |lines: &[serde_json::Value], code: &str| {
        lines.iter().filter(|line| line["code"] == code).count()
    };
    let lines = log.take();
    assert_eq!(count(&lines, "unauthenticated"), 20);
    assert_eq!(count(&lines, "permission_denied"), 1);
    server.clock.advance(Duration::from_secs(1));
    stranger.do_get(Ticket::default()).await.unwrap_err();
    let lines = log.take();
    assert_eq!((lines.len(), &lines[0]["left_out"]), (1, &30.into()));
}
