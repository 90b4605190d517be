//! Differences of rows.

use serde_json::json;

use super::*;

fn rows(rows: Value) -> Vec<Row> {
    serde_json::from_value(rows).unwrap()
}

fn found(expected: Value, got: Value, any_order: bool) -> Vec<Value> {
    let found = compare(&rows(expected), &rows(got), any_order);
    found.into_iter().map(|one| serde_json::to_value(one).unwrap()).collect()
}

#[test]
fn equal_rows_have_no_difference_and_order_counts_only_where_it_is_asked_for() {
    let (one, other) = (json!([{"n": 1}, {"n": 2}]), json!([{"n": 2.0}, {"n": 1}]));
    assert_eq!(found(one.clone(), one.clone(), false), Vec::<Value>::new());
    assert_eq!(found(one.clone(), other.clone(), true), Vec::<Value>::new());
    let expected = json!({"what": "value", "row": 1, "column": "n", "expected": 1, "got": 2.0});
    assert_eq!(found(one, other, false)[0], expected);
}

#[test]
fn a_row_that_lacks_in_the_middle_does_not_shift_the_others() {
    let (all, few) = (json!([{"n": 1}, {"n": 2}, {"n": 3}]), json!([{"n": 1}, {"n": 3}]));
    let missing = json!({"what": "missing", "row": 2, "expected": {"n": 2}});
    let surplus = json!({"what": "surplus", "row": 2, "got": {"n": 2}});
    for any_order in [false, true] {
        assert_eq!(found(all.clone(), few.clone(), any_order), std::slice::from_ref(&missing));
        assert_eq!(found(few.clone(), all.clone(), any_order), std::slice::from_ref(&surplus));
    }
}

#[test]
fn a_row_in_any_order_is_compared_with_the_one_most_like_it() {
    let expected = json!([{"id": 1, "n": 5, "t": "a"}, {"id": 2, "n": 6, "t": "b"}]);
    let got = json!([{"id": 9, "n": 9, "t": "z"}, {"id": 2, "n": 7, "t": "b"}]);
    let found = found(expected, got, true);
    assert_eq!(found[0]["what"], "missing");
    let value = json!({"what": "value", "row": 2, "column": "n", "expected": 6, "got": 7});
    assert_eq!(found[1], value);
    assert_eq!((found.len(), &found[2]["what"]), (3, &json!("surplus")));
}

#[test]
fn the_same_row_twice_is_two_rows() {
    let (one, two) = (json!([{"n": 1}]), json!([{"n": 1}, {"n": 1}]));
    assert_eq!(found(two.clone(), one.clone(), true).len(), 1);
    assert_eq!(found(one, two, true).len(), 1);
}

#[test]
fn columns_that_only_one_side_has_are_told_unless_they_are_null() {
    assert_eq!(found(json!([{"n": 1}]), json!([{"n": 1, "m": null}]), false), Vec::<Value>::new());
    let found = found(json!([{"n": 1}]), json!([{"n": 1, "m": 2}]), false);
    let value = json!({"what": "value", "row": 1, "column": "m", "expected": null, "got": 2});
    assert_eq!(found, [value]);
}
