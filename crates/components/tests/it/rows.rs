//! Filter, project and merge over small tables.

use arrow_array::{
    Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, UInt64Array,
};
use serde_json::json;

use crate::support::{array, batch, one, parse, processor, received, rows, start};

fn orders() -> RecordBatch {
    let price = Decimal128Array::from(vec![Some(1_999), Some(500), None, Some(-1)]);
    batch([
        ("id", array(Int32Array::from(vec![1, 2, 3, 4]))),
        ("country", array(StringArray::from(vec![Some("DE"), Some("FR"), None, Some("IT")]))),
        ("amount", array(Float64Array::from(vec![Some(10.0), None, Some(0.5), Some(20.0)]))),
        ("price", array(price.with_precision_and_scale(10, 2).unwrap())),
        ("day", array(Date32Array::from(vec![20_454, 20_455, 20_456, 20_457]))),
        (
            "at",
            array(
                TimestampMicrosecondArray::from(vec![0, 1_500_000, 2_000_000, 86_400_000_000])
                    .with_timezone("UTC"),
            ),
        ),
    ])
}

fn kept(condition: &str) -> Vec<String> {
    let made = one(&mut *processor("filter", json!({ "where": condition })), &orders()).unwrap();
    let ids = made.iter().map(|batch| batch.project(&[0]).unwrap()).collect::<Vec<_>>();
    rows(&ids)
}

fn computed(value: &str) -> Vec<String> {
    let config = json!({ "columns": [{ "name": "x", "value": value }] });
    rows(&one(&mut *processor("project", config), &orders()).unwrap())
}

fn refusal(kind: &str, config: serde_json::Value) -> String {
    one(&mut *processor(kind, config), &orders()).unwrap_err().to_string()
}

#[test]
fn rows_stay_for_which_the_condition_is_true() {
    for (condition, ids) in [
        ("amount >= 10", &["1", "4"][..]),
        ("not amount >= 10", &["3"]),
        ("amount is null or country is null", &["2", "3"]),
        ("country in ('DE', 'FR')", &["1", "2"]),
        ("country not in ('DE', 'FR')", &["4"]),
        ("country not in ('DE', null)", &[]),
        ("country like '_R' or id = 4", &["2", "4"]),
        ("price > 5", &["1"]),
        ("price >= 5.00", &["1", "2"]),
        ("price = 19.99", &["1"]),
        ("price > 4.995", &["1", "2"]),
        ("price in (5, -0.01, 1e300)", &["2", "4"]),
        ("price * 2 > 39.97", &["1"]),
        ("day >= '2026-01-03'", &["3", "4"]),
        ("day = '2026-01-01' or at = '1970-01-01T00:00:02Z'", &["1", "3"]),
        ("at < day", &["1", "2", "3", "4"]),
        ("true", &["1", "2", "3", "4"]),
        ("null", &[]),
        ("id > 5000000000", &[]),
        ("id < 5000000000", &["1", "2", "3", "4"]),
        ("id > 1.5", &["2", "3", "4"]),
    ] {
        assert_eq!(kept(condition), ids, "{condition}");
    }
}

#[test]
fn computed_values_are_exact() {
    for (value, expected) in [
        ("id + 1", &["2", "3", "4", "5"][..]),
        ("7 / id", &["7", "3", "2", "1"]),
        ("-7 % id", &["0", "-1", "-1", "-3"]),
        ("amount * 2", &["20.0", "null", "1.0", "40.0"]),
        ("price * 1.19", &["23.7881", "5.9500", "null", "-0.0119"]),
        ("price + id", &["20.99", "7.00", "null", "3.99"]),
        ("price + amount", &["29.99", "null", "null", "19.99"]),
        ("'x'", &["x", "x", "x", "x"]),
        ("id > 2", &["false", "false", "true", "true"]),
        ("country", &["DE", "FR", "null", "IT"]),
    ] {
        assert_eq!(computed(value), expected, "{value}");
    }
}

#[test]
fn a_guard_keeps_zero_from_being_a_divisor() {
    assert_eq!(kept("id != 2 and 6 / (id - 2) > 0"), ["3", "4"]);
    assert_eq!(kept("id = 2 or 6 / (id - 2) > 0"), ["2", "3", "4"]);
    let error = refusal("filter", json!({ "where": "6 / (id - 2) > 0" }));
    assert_eq!(
        error,
        "where: `6 / (id - 2) > 0`, row 2 of the batch (id = 2): Divide by zero error"
    );
}

#[test]
fn an_overflow_names_expression_row_and_values() {
    let numbers = array(Int64Array::from(vec![1, i64::MAX]));
    let config = json!({ "columns": [{ "name": "x", "value": "n + 1" }] });
    let error = one(&mut *processor("project", config), &batch([("n", numbers)])).unwrap_err();
    let text = error.to_string();
    let place = "column `x`: `n + 1`, row 2 of the batch (n = 9223372036854775807): ";
    assert!(text.starts_with(place), "{text}");
    let large = array(UInt64Array::from(vec![u64::MAX]));
    let config = json!({ "columns": [{ "name": "x", "value": "n * 1" }] });
    let error = one(&mut *processor("project", config), &batch([("n", large)])).unwrap_err();
    assert!(error.to_string().contains("row 1 of the batch"), "{error}");
}

#[test]
fn what_does_not_fit_together_is_told_with_types() {
    for (condition, text) in [
        (
            "colour = 1",
            "the rows have no column `colour`; they have id, country, amount, price, day, at",
        ),
        (
            "country > 1",
            "column `country`: values of type Utf8 cannot be compared with the number 1",
        ),
        (
            "country = id",
            "column `country` (of type Utf8) cannot be compared with column `id` (of type Int32)",
        ),
        (
            "id and true",
            "`and` is for what is true or false, and not for column `id` (of type Int32); compare it with something",
        ),
        ("id like 'x'", "`like` is for text, and not for column `id` (of type Int32)"),
        ("country * 2 > 1", "`*` is for numbers, and not for column `country` (of type Utf8)"),
        (
            "day > 'soon'",
            "column `day`: 'soon' is no value of type Date32; write a date as '2026-01-31'",
        ),
    ] {
        let error = refusal("filter", json!({ "where": condition }));
        assert_eq!(error, format!("where: `{condition}`: {text}"));
    }
    let error = refusal("filter", json!({ "where": "id" }));
    assert!(error.contains("`id` is a value of type Int32, and not true or false"), "{error}");
    let error = refusal("project", json!({ "columns": ["id", "colour"] }));
    assert!(error.starts_with("project: the rows have no column `colour`"), "{error}");
}

#[test]
fn a_project_keeps_order_names_and_types() {
    let config = json!({ "columns": ["country", { "name": "twice", "value": "id * 2" }, "id"] });
    let made = one(&mut *processor("project", config), &orders()).unwrap();
    assert_eq!(rows(&made), ["DE,2,1", "FR,4,2", "null,6,3", "IT,8,4"]);
    let fields = made[0].schema_ref().fields().clone();
    let fields: Vec<_> =
        fields.iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    assert_eq!(fields, ["country Utf8", "twice Int64", "id Int32"]);
    let twice = json!({ "columns": ["id", { "name": "id", "value": "1" }] });
    let error = sheaf_components::processors::build(&parse("project", twice), &start());
    let error = error.err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("project: two columns are called `id`; rename one"));
}

#[tokio::test]
async fn every_batch_is_done_at_once_also_where_no_row_is_left() {
    let mut filter = processor("filter", json!({ "where": "id > 3" }));
    let none = orders().slice(0, 3);
    let outcome = filter.process(&received(none, 1)).await.unwrap();
    assert_eq!((outcome.batches.len(), outcome.done), (0, 1));
    let outcome = filter.process(&received(orders().slice(0, 0), 2)).await.unwrap();
    assert_eq!((outcome.batches.len(), outcome.done), (0, 2));
    let outcome = filter.process(&received(orders(), 3)).await.unwrap();
    assert_eq!((rows(&outcome.batches).len(), outcome.done), (1, 3));
    assert_eq!(filter.end().await.unwrap().done, 3);
}

#[tokio::test]
async fn a_failed_batch_is_not_counted() {
    let mut filter = processor("filter", json!({ "where": "1 / id > 0" }));
    let zero = batch([("id", array(Int32Array::from(vec![0])))]);
    assert!(filter.process(&received(zero, 1)).await.is_err());
    let one = batch([("id", array(Int32Array::from(vec![1])))]);
    assert_eq!(filter.process(&received(one, 1)).await.unwrap().done, 1);
}

#[tokio::test]
async fn a_merge_hands_on_batches_as_they_come() {
    let mut merge = processor("merge", json!({}));
    let first = merge.process(&received(orders(), 1)).await.unwrap();
    assert_eq!((first.batches, first.done), (vec![orders()], 1));
    let other = batch([("note", array(StringArray::from(vec!["x"])))]);
    let second = merge.process(&received(other, 2)).await.unwrap();
    assert_eq!(rows(&second.batches), ["null,null,null,null,null,null,x"]);
    assert_eq!(second.done, 2);
}
