//! Rows that are made up.

use std::path::Path;

use serde_json::json;
use sheaf_components::Host;
use sheaf_dataflow::Start;
use sheaf_retry::{Clock as _, Code, ManualClock, Retryable as _, Timestamp};

use crate::common::{all, goes_on_from_everywhere, numbers, source, source_of, start};

fn config(rows: u64, batch_rows: u32) -> serde_json::Value {
    json!({
        "rows": rows, "batchRows": batch_rows, "seed": 7,
        "columns": [
            {"name": "n", "values": "sequence"},
            {"name": "i", "values": {"integers": [-5, 5]}},
            {"name": "j", "values": {"integers": [-5, 5]}},
            {"name": "wide", "values": {"integers": [i64::MIN, i64::MAX]}},
            {"name": "f", "values": {"numbers": [1.5, 2.5]}},
            {"name": "word", "values": {"choice": ["a", "b", null]}},
            {"name": "yes", "values": {"constant": true}},
        ],
    })
}

#[tokio::test]
async fn the_same_seed_makes_the_same_rows_in_batches_of_any_size() {
    let dir = Path::new("/");
    let made = all(source("generate", config(1_000, 100), start(dir)).await.as_mut()).await;
    let other = all(source("generate", config(1_000, 7), start(dir)).await.as_mut()).await;
    assert_eq!((made.len(), other.len()), (10, 143));
    assert_eq!(numbers(&made, "n"), (0..1_000).collect::<Vec<_>>());
    for column in ["i", "j", "wide"] {
        assert_eq!(numbers(&made, column), numbers(&other, column));
    }
    let drawn = numbers(&made, "i");
    assert!((-5..=5).all(|n| drawn.contains(&n)) && drawn.iter().all(|n| (-5..=5).contains(n)));
    assert_ne!(drawn, numbers(&made, "j"));
    let mut another = config(1_000, 100);
    another["seed"] = 8.into();
    let another = all(source("generate", another, start(dir)).await.as_mut()).await;
    assert_ne!(drawn, numbers(&another, "i"));
}

#[tokio::test]
async fn it_goes_on_from_every_offset_with_exactly_the_rest() {
    for column in ["n", "wide"] {
        goes_on_from_everywhere("generate", config(50, 8), Path::new("/"), column).await;
    }
}

#[tokio::test]
async fn several_instances_share_the_rows() {
    for rows in [0, 1, 7, 8, 100, 101] {
        let mut seen = Vec::new();
        for instance in 0..3 {
            let start = Start { instance, replicas: 3, ..start(Path::new("/")) };
            let made = all(source("generate", config(rows, 8), start.clone()).await.as_mut()).await;
            seen.extend(numbers(&made, "n"));
            let Some(middle) = made.get(made.len() / 2) else { continue };
            let start = Start { offset: Some(middle.offset.clone()), ..start };
            let rest = all(source("generate", config(rows, 8), start).await.as_mut()).await;
            assert_eq!(numbers(&rest, "n"), numbers(&made[made.len() / 2 + 1..], "n"));
        }
        seen.sort_unstable();
        let expected: Vec<_> = (0..i64::try_from(rows).unwrap()).collect();
        assert_eq!(seen, expected, "{rows} rows");
    }
}

#[tokio::test]
async fn an_offset_of_another_share_is_refused() {
    let start = Start { replicas: 2, ..start(Path::new("/")) };
    let made = all(source("generate", config(100, 8), start.clone()).await.as_mut()).await;
    let offset = Some(made[0].offset.clone());
    for (replicas, batch_rows) in [(3, 8), (2, 9), (1, 8)] {
        let start = Start { replicas, offset: offset.clone(), ..start.clone() };
        let opened = source_of("generate", config(100, batch_rows), start, &Host::plain()).await;
        assert_eq!(opened.err().unwrap().code(), Code::FailedPrecondition);
    }
}

#[tokio::test]
async fn no_more_rows_are_made_than_a_second_may_have() {
    let clock = ManualClock::auto(Timestamp::EPOCH);
    let host = Host { clock: clock.clone(), ..Host::plain() };
    let mut config = config(1_000, 8_192);
    config["rowsPerSecond"] = 100.into();
    let begun = clock.elapsed();
    let mut source = source_of("generate", config, start(Path::new("/")), &host).await.unwrap();
    let made = all(source.as_mut()).await;
    // The first batch waits for nothing, each one after it for the time of the one before.
    assert_eq!((made.len(), made[0].batch.num_rows()), (100, 10));
    let took = clock.elapsed() - begun;
    assert!((9.89..=9.91).contains(&took.as_secs_f64()), "{took:?}");
}

#[tokio::test]
async fn columns_that_make_no_sense_are_refused() {
    for values in [
        json!({"integers": [2, 1]}),
        json!({"numbers": [2.0, 1.0]}),
        json!({"choice": [1, "a"]}),
        json!({"choice": [null]}),
        json!({"constant": [1]}),
    ] {
        let config = json!({"columns": [{"name": "x", "values": values}]});
        let opened = source_of("generate", config, start(Path::new("/")), &Host::plain()).await;
        let error = opened.err().unwrap();
        assert!(error.to_string().starts_with("column x: "), "{error}");
    }
}
