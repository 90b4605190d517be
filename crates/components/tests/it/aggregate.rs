//! Groups, windows, and which batches are done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{
    BooleanArray, Decimal128Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMillisecondArray, UInt8Array, UInt64Array, types::Int32Type,
};
use proptest::prelude::*;
use serde_json::json;
use sheaf_components::Host;
use sheaf_components::processors::build;
use sheaf_dataflow::{Outcome, Processor, Received};
use sheaf_retry::{ManualClock, Timestamp};

use crate::support::{array, batch, one, parse, processor, received, rows, start};

fn sales() -> RecordBatch {
    let price = Decimal128Array::from(vec![Some(150), Some(250), None, Some(-50), None]);
    let shops: DictionaryArray<Int32Type> =
        [Some("b"), Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    batch([
        ("shop", array(shops)),
        ("n", array(Int32Array::from(vec![Some(1), Some(2), Some(3), Some(i32::MAX), None]))),
        ("u", array(UInt8Array::from(vec![200, 200, 200, 200, 200]))),
        ("x", array(Float64Array::from(vec![Some(0.5), None, None, Some(-0.0), Some(2.0)]))),
        ("price", array(price.with_precision_and_scale(5, 2).unwrap())),
        ("note", array(StringArray::from(vec![Some("x"), Some("z"), Some("y"), Some("w"), None]))),
        ("ok", array(BooleanArray::from(vec![Some(true), None, Some(false), Some(false), None]))),
    ])
}

fn aggregate(config: serde_json::Value, batch: &RecordBatch) -> Vec<String> {
    rows(&one(&mut *processor("aggregate", config), batch).unwrap())
}

#[test]
fn every_function_of_every_type_is_exact() {
    let of = |function: &str, column: &str| {
        let aggregates = json!([{ "name": "r", "function": function, "column": column }]);
        let config = json!({ "groupBy": ["shop"], "aggregates": aggregates });
        aggregate(config, &sales())
    };
    for (function, column, expected) in [
        ("count", "n", ["b,2", "a,1", "null,1"]),
        ("sum", "n", ["b,2147483648", "a,2", "null,3"]),
        ("sum", "u", ["b,400", "a,400", "null,200"]),
        ("sum", "x", ["b,0.5", "a,2.0", "null,null"]),
        ("sum", "price", ["b,1.00", "a,2.50", "null,null"]),
        ("mean", "n", ["b,1073741824.0", "a,2.0", "null,3.0"]),
        ("mean", "x", ["b,0.25", "a,2.0", "null,null"]),
        ("mean", "price", ["b,0.5", "a,2.5", "null,null"]),
        ("min", "n", ["b,1", "a,2", "null,3"]),
        ("max", "n", ["b,2147483647", "a,2", "null,3"]),
        ("min", "x", ["b,0.0", "a,2.0", "null,null"]),
        ("max", "price", ["b,1.50", "a,2.50", "null,null"]),
        ("min", "note", ["b,w", "a,z", "null,y"]),
        ("max", "note", ["b,x", "a,z", "null,y"]),
        ("max", "ok", ["b,true", "a,null", "null,false"]),
        ("min", "shop", ["b,b", "a,a", "null,null"]),
    ] {
        assert_eq!(of(function, column), expected, "{function} of {column}");
    }
}

#[test]
fn without_groups_all_rows_are_one() {
    let aggregates = json!([{ "name": "c", "function": "count" },
        { "name": "m", "function": "max", "column": "n" }]);
    assert_eq!(aggregate(json!({ "aggregates": aggregates }), &sales()), ["5,2147483647"]);
}

#[test]
fn zeros_and_nans_are_one_group_each() {
    let floats = vec![Some(0.0), Some(f64::NAN), None, Some(-0.0), Some(-f64::NAN)];
    let rows = batch([("f", array(Float64Array::from(floats)))]);
    let aggregates = json!([{ "name": "c", "function": "count" }]);
    let config = json!({ "groupBy": ["f"], "aggregates": aggregates });
    assert_eq!(aggregate(config, &rows), ["0.0,2", "NaN,2", "null,1"]);
}

#[test]
fn what_cannot_be_computed_is_refused() {
    let error = |config: serde_json::Value| match build(
        &parse("aggregate", config),
        &start(),
        &Host::plain(),
    ) {
        Err(error) => error.to_string(),
        Ok(mut made) => one(&mut *made, &sales()).unwrap_err().to_string(),
    };
    for (config, text) in [
        (
            json!({ "aggregates": [{ "name": "r", "function": "sum", "column": "note" }] }),
            "aggregate `r`: column `note` is of type Utf8, which sum cannot be computed of; \
             compute a number in a `project` before",
        ),
        (
            json!({ "aggregates": [{ "name": "r", "function": "sum" }] }),
            "aggregate `r`: name the column that it is of",
        ),
        (
            json!({ "groupBy": ["r"], "aggregates": [{ "name": "r", "function": "count" }] }),
            "aggregate: two columns are called `r`; rename one",
        ),
        (
            json!({ "groupBy": ["q"], "aggregates": [{ "name": "r", "function": "count" }] }),
            "aggregate: the rows have no column `q`; they have `shop`, `n`, `u`, `x`, `price`, \
             `note`, `ok`",
        ),
        (
            json!({ "aggregates": [{ "name": "r", "function": "count" }],
                "window": { "time": { "size": "1s", "column": "note" } } }),
            "window: column `note` is of type Utf8; a window goes by a timestamp or a date",
        ),
        (
            json!({ "aggregates": [{ "name": "r", "function": "count" }],
                "window": { "time": { "size": "1d", "slide": "1ms" } } }),
            "window: a row would be in 86400000 windows, over the limit of 10000; take a longer \
             slide",
        ),
    ] {
        assert_eq!(error(config), text);
    }
    let large = batch([("n", array(UInt64Array::from(vec![u64::MAX, 1])))]);
    let config = json!({ "aggregates": [{ "name": "r", "function": "sum", "column": "n" }] });
    let error = one(&mut *processor("aggregate", config), &large).unwrap_err().to_string();
    let text = "aggregate `r`: the sum 18446744073709551616 does not fit into 64 bits";
    assert!(error.starts_with(text), "{error}");
}

#[tokio::test]
async fn rows_of_other_types_than_before_are_refused() {
    let config = json!({ "aggregates": [{ "name": "r", "function": "max", "column": "n" }],
        "window": "end" });
    let mut aggregate = processor("aggregate", config);
    let ints = batch([("n", array(Int64Array::from(vec![1])))]);
    aggregate.process(&received(ints, 1)).await.unwrap();
    let texts = batch([("n", array(StringArray::from(vec!["1"])))]);
    let error = aggregate.process(&received(texts, 2)).await.unwrap_err().to_string();
    let text = "aggregate: column `n` is of type Utf8 and was of type Int64 before";
    assert!(error.starts_with(text), "{error}");
    // A column elsewhere is the same column.
    let moved =
        batch([("m", array(Int64Array::from(vec![9]))), ("n", array(Int64Array::from(vec![5])))]);
    aggregate.process(&received(moved, 2)).await.unwrap();
    let outcome = aggregate.end().await.unwrap();
    assert_eq!((rows(&outcome.batches), outcome.done), (vec!["5".to_owned()], 2));
}

fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
    batch([("n", array(Int64Array::from_iter_values(values)))])
}

fn sums(window: serde_json::Value) -> Box<dyn Processor> {
    let aggregates = json!([{ "name": "s", "function": "sum", "column": "n" }]);
    processor("aggregate", json!({ "aggregates": aggregates, "window": window }))
}

fn seen(outcome: &Outcome) -> (Vec<String>, u64) {
    (rows(&outcome.batches), outcome.done)
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[tokio::test]
async fn a_window_until_the_end_acknowledges_nothing_before() {
    let mut sums = sums(json!("end"));
    for sequence in 1..4 {
        let outcome = sums.process(&received(numbers(0..10), sequence)).await.unwrap();
        assert_eq!(seen(&outcome), (vec![], 0));
    }
    assert_eq!(seen(&sums.end().await.unwrap()), (texts(&["135"]), 3));
}

#[tokio::test]
async fn a_window_of_rows_is_done_with_a_batch_when_its_last_row_is_out() {
    let mut sums = sums(json!({ "rows": 4 }));
    for (batch, expected, done) in [
        (0..3, &[][..], 0),
        (3..3, &[], 0),
        (3..6, &["6"], 2),
        (6..13, &["22", "38"], 3),
        (13..16, &["54"], 5),
        (16..17, &[], 5),
    ] {
        let outcome = sums.process(&received(numbers(batch), 1)).await.unwrap();
        assert_eq!(seen(&outcome), (texts(expected), done));
    }
    assert_eq!(seen(&sums.end().await.unwrap()), (texts(&["16"]), 6));
}

/// Rows at these milliseconds, from an input.
fn at(from: &str, times: &[Option<i64>]) -> Received {
    let column = array(TimestampMillisecondArray::from(times.to_vec()));
    let batch = batch([("at", column)]);
    Received { batch, from: from.into(), from_instance: 0, epoch: 1, sequence: 1, lease: None }
}

fn some(times: &[i64]) -> Vec<Option<i64>> {
    times.iter().copied().map(Some).collect()
}

fn counts(window: serde_json::Value, clock: &Arc<ManualClock>) -> Box<dyn Processor> {
    let aggregates = json!([{ "name": "c", "function": "count" }]);
    let config = json!({ "aggregates": aggregates, "window": { "time": window } });
    let shared: sheaf_retry::SharedClock = Arc::clone(clock) as _;
    let host = Host { clock: shared, ..Host::plain() };
    build(&parse("aggregate", config), &start(), &host).unwrap()
}

/// Start, end and count, without what is the same for all times of a few seconds.
fn short(outcome: &Outcome) -> (Vec<String>, u64) {
    let rows = rows(&outcome.batches);
    (
        rows.iter().map(|row| row.replace("1970-01-01T00:00:", "").replace('Z', "")).collect(),
        outcome.done,
    )
}

fn counter(processor: &dyn Processor, name: &str) -> u64 {
    processor.counters().into_iter().find(|(own, _)| *own == name).unwrap().1
}

#[tokio::test]
async fn windows_of_time_are_out_when_the_rows_are_beyond_them_by_the_lateness() {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let mut counts = counts(json!({ "size": "10s", "column": "at", "lateness": "2s" }), &clock);
    let outcome = counts.process(&at("a", &some(&[3_000, 9_999, 1_000]))).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 0));
    let outcome = counts.process(&at("a", &some(&[11_000, 11_999]))).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 0));
    // Not late yet: the window is held open.
    let outcome = counts.process(&at("a", &some(&[5_000]))).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 0));
    let outcome = counts.process(&at("a", &[Some(12_000), None])).await.unwrap();
    // The second batch, given before the third, is not out.
    assert_eq!(short(&outcome), (texts(&["00,10,4"]), 1));
    assert_eq!(counter(&*counts, "late_rows"), 0);
    assert_eq!(counter(&*counts, "rows_without_time"), 1);
    // Late: counted, left out, and done with.
    let outcome = counts.process(&at("a", &some(&[9_000, 13_000]))).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 1));
    assert_eq!(counter(&*counts, "late_rows"), 1);
    let outcome = counts.process(&at("a", &some(&[2_000, 42_000]))).await.unwrap();
    assert_eq!(short(&outcome), (texts(&["10,20,4"]), 5));
    assert_eq!(counter(&*counts, "late_rows"), 2);
    assert_eq!(counter(&*counts, "open_windows"), 1);
    assert_eq!(short(&counts.end().await.unwrap()), (texts(&["40,50,1"]), 6));
}

#[tokio::test]
async fn a_row_is_in_every_window_that_slides_over_it() {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let mut counts = counts(json!({ "size": "10s", "slide": "5s", "column": "at" }), &clock);
    let outcome = counts.process(&at("a", &some(&[6_000, 12_000, 1_000]))).await.unwrap();
    // The window from -5 s to 5 s has the row of 1 s alone.
    let expected = ["1969-12-31T23:59:55,05,1", "00,10,2"];
    assert_eq!(short(&outcome), (texts(&expected), 0));
    let outcome = counts.process(&at("a", &some(&[8_000, 15_000]))).await.unwrap();
    // 8 s is late for the first of its windows, and in the second.
    assert_eq!(short(&outcome), (texts(&["05,15,3"]), 0));
    assert_eq!(counter(&*counts, "late_rows"), 1);
    let outcome = counts.process(&at("a", &some(&[30_000]))).await.unwrap();
    assert_eq!(short(&outcome), (texts(&["10,20,2", "15,25,1"]), 2));
    assert_eq!(short(&counts.end().await.unwrap()), (texts(&["25,35,1", "30,40,1"]), 3));
}

#[tokio::test]
async fn the_slower_of_two_inputs_is_waited_for_until_it_ends() {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let mut counts = counts(json!({ "size": "10s", "column": "at" }), &clock);
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    counts.begin(&[(Arc::clone(&a), 0), (Arc::clone(&b), 0)]).await.unwrap();
    let outcome = counts.process(&at("a", &some(&[5_000, 60_000]))).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 0));
    let outcome = counts.process(&at("b", &some(&[7_000]))).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 0));
    let outcome = counts.stream_ended(&b, 0).await.unwrap().unwrap();
    assert_eq!(short(&outcome), (texts(&["00,10,2"]), 0));
    assert_eq!(counter(&*counts, "late_rows"), 0);
    assert_eq!(counts.end().await.unwrap().done, 2);
}

#[tokio::test]
async fn windows_by_arrival_go_by_the_clock() {
    let clock = ManualClock::new(Timestamp::from_millis(3_000));
    let mut counts = counts(json!({ "size": "10s" }), &clock);
    let two = batch([("n", array(Int64Array::from(vec![1, 2])))]);
    let outcome = counts.process(&received(two.clone(), 1)).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 0));
    assert!(counts.tick().await.unwrap().is_none());
    clock.advance(Duration::from_secs(7));
    let outcome = counts.tick().await.unwrap().unwrap();
    assert_eq!(short(&outcome), (texts(&["00,10,2"]), 1));
    assert!(counts.tick().await.unwrap().is_none());
    let outcome = counts.process(&received(two, 2)).await.unwrap();
    assert_eq!(short(&outcome), (vec![], 1));
    assert_eq!(short(&counts.end().await.unwrap()), (texts(&["10,20,2"]), 2));
}

#[tokio::test]
async fn times_that_are_far_apart_do_not_fill_the_memory() {
    let clock = ManualClock::new(Timestamp::from_millis(0));
    let mut counts = counts(json!({ "size": "1ms", "column": "at", "lateness": "30d" }), &clock);
    let many: Vec<i64> = (0..100_001).collect();
    let error = counts.process(&at("a", &some(&many))).await.unwrap_err().to_string();
    assert!(error.starts_with("window: over 100000 windows would be open"), "{error}");
    assert_eq!(counter(&*counts, "open_windows"), 0);
}

type Row = (Option<u8>, Option<i16>, Option<i64>);

/// Groups with count, sum, least and mean, as text.
fn naive(rows: &[Row]) -> Vec<String> {
    let mut order = Vec::new();
    let mut groups: BTreeMap<Option<u8>, Vec<Option<i16>>> = BTreeMap::new();
    for (key, value, _) in rows {
        if !groups.contains_key(key) {
            order.push(*key);
        }
        groups.entry(*key).or_default().push(*value);
    }
    let text = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
    let line = |key: Option<u8>| {
        let values: Vec<i64> =
            groups[&key].iter().flatten().map(|value| i64::from(*value)).collect();
        let sum = (!values.is_empty()).then(|| values.iter().sum::<i64>());
        let mean = sum.map(|sum| format!("{:?}", sum as f64 / values.len() as f64));
        format!(
            "{},{},{},{},{}",
            text(key.map(|key| key.to_string())),
            groups[&key].len(),
            text(sum.map(|sum| sum.to_string())),
            text(values.iter().min().map(i64::to_string)),
            text(mean),
        )
    };
    order.into_iter().map(line).collect()
}

fn table(rows: &[Row]) -> RecordBatch {
    let ints = rows.iter().map(|(_, value, _)| value.map(i32::from)).collect::<Int32Array>();
    batch([
        ("key", array(rows.iter().map(|(key, ..)| *key).collect::<UInt8Array>())),
        ("value", array(ints)),
        ("at", array(rows.iter().map(|(.., at)| *at).collect::<TimestampMillisecondArray>())),
    ])
}

fn grouped(window: serde_json::Value) -> Box<dyn Processor> {
    let of = |name: &str| json!({ "name": name, "function": name, "column": "value" });
    let aggregates =
        json!([{ "name": "c", "function": "count" }, of("sum"), of("min"), of("mean")]);
    let config = json!({ "groupBy": ["key"], "aggregates": aggregates, "window": window });
    processor("aggregate", config)
}

fn any_rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let row = (
        prop::option::weighted(0.9, 0..5u8),
        prop::option::weighted(0.8, any::<i16>()),
        prop::option::weighted(0.95, -50..50i64),
    );
    prop::collection::vec(prop::collection::vec(row, 0..12), 1..8)
}

/// All that comes out, and what each step says is done.
async fn run(processor: &mut dyn Processor, batches: &[Vec<Row>]) -> (Vec<String>, Vec<u64>) {
    let (mut out, mut done) = (Vec::new(), Vec::new());
    for (sequence, rows_) in (1..).zip(batches) {
        let outcome = processor.process(&received(table(rows_), sequence)).await.unwrap();
        out.extend(rows(&outcome.batches));
        done.push(outcome.done);
    }
    let outcome = processor.end().await.unwrap();
    out.extend(rows(&outcome.batches));
    done.push(outcome.done);
    (out, done)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn groups_of_rows_are_what_they_are_one_by_one(batches in any_rows(), size in 1..20usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let all: Vec<Row> = batches.concat();
        let (out, done) = runtime.block_on(run(&mut *grouped(json!({ "rows": size })), &batches));
        let expected: Vec<String> = all.chunks(size).flat_map(naive).collect();
        prop_assert_eq!(out, expected);
        // A batch is done as soon as its last row is in a full window.
        let ends: Vec<usize> = batches.iter().scan(0, |end, rows| { *end += rows.len(); Some(*end) }).collect();
        for (given, done) in done[..batches.len()].iter().enumerate() {
            let full = ends[given] / size * size;
            let expected = ends[..=given].iter().filter(|end| **end <= full).count();
            prop_assert_eq!(*done, expected as u64);
        }
        prop_assert_eq!(*done.last().unwrap(), batches.len() as u64);
        let (out, _) = runtime.block_on(run(&mut *grouped(json!("end")), &batches));
        prop_assert_eq!(out, naive(&all));
    }

    #[test]
    fn windows_of_time_are_what_they_are_one_by_one(
        batches in any_rows(), slide in 1..20i64, times in 1..4i64, lateness in 0..30i64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let size = slide * times - i64::from(times > 1);
        let window = json!({ "time": { "size": format!("{size}ms"), "slide": format!("{slide}ms"),
            "lateness": format!("{lateness}ms"), "column": "at" } });
        let mut own = grouped(window);
        let (out, done) = runtime.block_on(run(&mut *own, &batches));

        let (mut open, mut closed) = (BTreeMap::<i64, Vec<Row>>::new(), i64::MIN);
        let (mut expected, mut late, mut ends) = (Vec::new(), 0, Vec::new());
        let mut newest = i64::MIN;
        let mut close = |open: &mut BTreeMap<i64, Vec<Row>>, until: i64| {
            while open.first_key_value().is_some_and(|(start, _)| start + size <= until) {
                expected.extend(naive(&open.pop_first().unwrap().1));
            }
        };
        for (given, rows) in batches.iter().enumerate() {
            let mut end = i64::MIN;
            for row in rows {
                let Some(at) = row.2 else { continue };
                let starts: Vec<i64> =
                    (-200..200).map(|n| n * slide).filter(|start| (*start..start + size).contains(&at)).collect();
                late += u64::from(starts.iter().any(|start| start + size <= closed));
                for start in starts.into_iter().filter(|start| start + size > closed) {
                    open.entry(start).or_default().push(*row);
                    end = end.max(start + size);
                }
            }
            newest = newest.max(rows.iter().filter_map(|row| row.2).max().unwrap_or(i64::MIN));
            closed = closed.max(newest.saturating_sub(lateness));
            close(&mut open, closed);
            ends.push(end);
            let prefix = ends.iter().take_while(|end| **end <= closed).count();
            prop_assert_eq!(done[given], prefix as u64);
        }
        close(&mut open, i64::MAX);
        let own_counts = counter(&*own, "late_rows");
        prop_assert_eq!(own_counts, late);
        let out: Vec<String> = out.iter().map(|row| row.splitn(3, ',').nth(2).unwrap().to_owned()).collect();
        prop_assert_eq!(out, expected);
    }
}
