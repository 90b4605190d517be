//! `sheafctl top --once` of a pipeline that runs.

use serde_json::Value;

use crate::live::{Live, batch};
use crate::{code, data, notes, sheafctl};

/// The memory of a process is never the same.
fn without_memory(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            // In place of a number and its unit.
            Some(place) if place.starts_with("live:") => {
                let mut words = words.clone();
                assert!(["MB", "kB", "GB"].contains(&words[9]), "{line}");
                words.splice(8..10, ["MEMORY"]);
                words.join(" ")
            }
            _ => words.join(" "),
        }
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_stands_still_is_seen_on_the_edge_that_leads_to_it() {
    let mut live = Live::start().await;
    for start in 0..6 {
        live.send(batch(start * 10..start * 10 + 10)).await;
    }
    // The sink has 1 and takes 2 more, 2 wait at who sends to it, and that holds 1 itself.
    live.wait_for_top(|seen| {
        let edge = &seen["edges"][1];
        edge["edge"] == "pass:keep" && edge["rows"] == 50 && edge["state"] == "waits"
    })
    .await;
    let output = live.sheafctl(&["top", "--once", "--pipeline", "live"]).await;
    assert_eq!((code(&output), notes(&output)), (0, String::new()));
    let expected = [
        "component kind status in/s out/s bytes/s lag memory restarts reason",
        "live:keep sink healthy 0 0 0 B 0 MEMORY 0",
        "live:make source healthy 0 0 0 B 6 MEMORY 0",
        "live:pass processor healthy 0 0 0 B 5 MEMORY 0",
        "",
        "edge state rows/s bytes/s lag waiting credits dropped memory spilled rows pipeline",
        "make:pass flows 0 0 B 6 0 32 0 2.01 KB 0 B 60 live",
        "pass:keep waits 0 0 B 5 2 0 0 1.68 KB 0 B 50 live",
    ];
    assert_eq!(without_memory(&data(&output)), expected);
    live.open.send_replace(true);
    live.wait_for_top(|seen| seen["components"][1]["lag"] == 0).await;
    let output = live.sheafctl(&["top", "--once", "--json", "--interval-ms", "100"]).await;
    let seen: Value = serde_json::from_str(&data(&output)).unwrap();
    assert_eq!(seen["edges"][1]["state"], "flows");
    assert_eq!(
        (&seen["edges"][1]["lag"], &seen["components"][0]["restarts"]),
        (&0.into(), &0.into())
    );
    live.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_those_between_two_readings() {
    let mut live = Live::start().await;
    live.open.send_replace(true);
    let feed = live.batches.clone().unwrap();
    let feeding = tokio::spawn(async move { while feed.send(batch(0..100)).await.is_ok() {} });
    live.wait_for_top(|seen| {
        let rate = |value: &Value| value.as_u64().is_some_and(|rate| rate > 0);
        rate(&seen["edges"][0]["rows_per_second"])
            && rate(&seen["edges"][1]["bytes_per_second"])
            && rate(&seen["components"][0]["rows_in_per_second"])
            && seen["components"][0]["rows_out_per_second"] == 0
            && rate(&seen["components"][1]["rows_out_per_second"])
    })
    .await;
    feeding.abort();
    live.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told() {
    let live = Live::start().await;
    let output = live.sheafctl(&["top", "--once", "--pipeline", "other"]).await;
    let text = notes(&output);
    assert_eq!(code(&output), 3);
    assert!(text.contains("no pipeline \"other\"") && text.contains("there are: live"), "{text}");
    let output = live.sheafctl(&["top"]).await;
    assert!(notes(&output).contains("use --once"), "{}", notes(&output));
    let output = sheafctl(&["top", "--once", "--server", "127.0.0.1:1"]);
    let text = notes(&output);
    assert!(code(&output) != 0 && text.contains("sheafctl server"), "{text}");
}
