//! Rates of counters that two readings have shown.

use sheaf_pipeline::health::Timing;
use sheaf_pipeline::registry::{Component, Kind, Limits, Now, Place, Plan, Registry, Token};
use sheaf_retry::Timestamp;

use super::super::reading::Instance;
use super::*;

/// As the registry has a place that nobody has taken.
fn place(fence: u64) -> Component {
    let plan = Plan {
        id: "p".to_owned(),
        places: vec![Place::new("p:a", Kind::Source, Token::new("t").digest())],
        ..Plan::default()
    };
    let mut registry = Registry::new(Limits::default(), Timing::default(), 1, 7);
    registry.plan(plan, Now::start(Timestamp::EPOCH)).unwrap();
    let mut component = Component::clone(registry.component("p:a").unwrap());
    component.fence = fence;
    component
}

fn reading(at_ms: u64, fence: u64, told: Option<Result<&str, &str>>) -> Reading {
    let stats = told.map(|told| match told {
        Ok(text) => Ok(serde_json::from_str(text).unwrap()),
        Err(why) => Err(why.to_owned()),
    });
    let instances = vec![Instance { component: place(fence).into(), stats }];
    Reading { at: Duration::from_millis(at_ms), instances }
}

fn told(rows: u64, more: &str) -> String {
    format!(
        r#"{{"residentBytes": 5, "outputs": [{{"edge": "a:b", "streams": [
            {{"connected": true, "rows": {rows}, "bytes": {}, "unacknowledged": 2, "credits": 3}},
            {{"rows": 1 {more}}}]}}]}}"#,
        rows * 8
    )
}

#[test]
fn a_rate_is_what_was_added_since_the_reading_before() {
    let (before, now) = (told(100, ""), told(600, r#", "finished": true, "dropped": 4"#));
    let before = reading(1_000, 1, Some(Ok(&before)));
    let rows = Rows::of(Some(&before), &reading(3_000, 1, Some(Ok(&now))));
    let component = &rows.components[0];
    assert_eq!((component.rows_in_per_second, component.rows_out_per_second), (Some(0), Some(250)));
    assert_eq!((component.lag, component.memory_bytes), (Some(2), Some(5)));
    let edge = &rows.edges[0];
    assert_eq!((&*edge.pipeline, &*edge.edge, edge.state), ("p", "a:b", "flows"));
    assert_eq!((edge.rows_per_second, edge.bytes_per_second), (Some(250), Some(2_000)));
    assert_eq!((edge.rows, edge.lag, edge.credits, edge.dropped), (601, 2, 3, 4));
}

#[test]
fn an_edge_whose_sender_tells_nothing_is_what_its_reader_has() {
    let told = |rows: u64| {
        format!(r#"{{"inputs": [{{"edge": "x:a", "rows": {rows}, "bytes": {}}}]}}"#, rows * 8)
    };
    let before = reading(0, 1, Some(Ok(&told(10))));
    let rows = Rows::of(Some(&before), &reading(2_000, 1, Some(Ok(&told(30)))));
    let edge = &rows.edges[0];
    assert_eq!((&*edge.pipeline, &*edge.edge, edge.state, edge.rows), ("p", "x:a", "flows", 30));
    assert_eq!((edge.rows_per_second, edge.bytes_per_second), (Some(10), Some(80)));
}

#[test]
fn another_process_and_a_first_reading_have_no_rate() {
    let (many, few) = (told(100, ""), told(7, ""));
    let before = reading(0, 1, Some(Ok(&many)));
    for (before, fence) in [(Some(&before), 2), (Some(&before), 1), (None, 1)] {
        let rows = Rows::of(before, &reading(1_000, fence, Some(Ok(&few))));
        assert_eq!(rows.components[0].rows_out_per_second, None, "fence {fence}");
        assert_eq!((rows.edges[0].rows_per_second, rows.edges[0].rows), (None, 8));
    }
}

#[test]
fn a_stream_without_reader_and_one_without_credits_are_told() {
    for (more, state) in [
        (r#", "connected": false"#, "broken"),
        (r#", "connected": true, "waiting": 1"#, "waits"),
        (r#", "connected": true, "waiting": 1, "credits": 1"#, "flows"),
    ] {
        let now = told(1, more);
        assert_eq!(Rows::of(None, &reading(0, 1, Some(Ok(&now)))).edges[0].state, state);
    }
}

#[test]
fn who_tells_nothing_is_shown_with_the_reason() {
    let rows = Rows::of(None, &reading(0, 1, Some(Err("connection refused"))));
    assert_eq!(rows.components[0].reason, "connection refused");
    assert_eq!((rows.components[0].lag, rows.edges.len()), (None, 0));
    let rows = Rows::of(None, &reading(0, 0, None));
    assert_eq!((rows.components[0].status, &*rows.components[0].reason), ("expected", ""));
}

#[test]
fn what_waits_in_a_queue_counts_once_however_many_senders_fill_it() {
    let told = |lag: u64| {
        let stream = |to: u32, lag: u64| {
            format!(
                r#"{{"to": {to}, "durable": true, "rows": 5, "bytes": 40, "unacknowledged": {lag},
                    "waiting": {lag}}}"#
            )
        };
        let streams = [stream(0, lag), stream(1, 7)].join(", ");
        format!(r#"{{"outputs": [{{"edge": "a:b", "streams": [{streams}]}}]}}"#)
    };
    let (first, second) = (told(40), told(41));
    let mut all = reading(1_000, 1, Some(Ok(&first)));
    all.instances.extend(reading(1_000, 1, Some(Ok(&second))).instances);
    let edge = &Rows::of(None, &all).edges[0];
    assert_eq!((edge.lag, edge.waiting), (48, 48));
    assert_eq!((edge.rows, edge.bytes), (20, 160), "of all streams");
}
