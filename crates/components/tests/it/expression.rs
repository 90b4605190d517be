//! Vectorised expressions against the row-by-row ones.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{
    Array as _, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, StringViewArray, UInt64Array,
};
use arrow_cast::cast;
use arrow_schema::DataType;
use proptest::prelude::*;
use sheaf_pipeline::spec::Expression;

use crate::naive::{self, Row, Value};
use crate::support::{array, batch, one, processor};

#[derive(Clone, Debug)]
struct Cells {
    i: Option<i32>,
    l: Option<i64>,
    u: Option<u64>,
    f: Option<f64>,
    g: Option<f32>,
    b: Option<bool>,
    t: Option<String>,
    s: Option<String>,
}

fn cells() -> impl Strategy<Value = Cells> {
    let long = prop_oneof![-3..4i64, Just(i64::MAX), Just(i64::MIN), Just(3_000_000_000)];
    let unsigned = prop_oneof![0..4u64, Just(u64::MAX), Just(1 << 63)];
    let float = prop_oneof![
        Just(0.0),
        Just(-0.0),
        Just(f64::NAN),
        Just(-f64::NAN),
        Just(2.5),
        Just(-1.0),
        Just(f64::INFINITY),
        Just(0.1)
    ];
    let small = prop_oneof![Just(0.0f32), Just(-0.0), Just(0.1), Just(2.5), Just(f32::NAN)];
    let text = || prop::option::of("[ab%]{0,3}");
    let numbers = (
        prop::option::of(-3..4i32),
        prop::option::of(long),
        prop::option::of(unsigned),
        prop::option::of(float),
        prop::option::of(small),
    );
    (numbers, prop::option::of(any::<bool>()), text(), text())
        .prop_map(|((i, l, u, f, g), b, t, s)| Cells { i, l, u, f, g, b, t, s })
}

fn batch_of(cells: &[Cells]) -> RecordBatch {
    let texts: StringArray = cells.iter().map(|cells| cells.t.clone()).collect();
    let views: StringViewArray = cells.iter().map(|cells| cells.s.clone()).collect();
    let packed: DictionaryArray<Int32Type> = cells.iter().map(|cells| cells.t.as_deref()).collect();
    batch([
        ("i", array(cells.iter().map(|cells| cells.i).collect::<Int32Array>())),
        ("l", array(cells.iter().map(|cells| cells.l).collect::<Int64Array>())),
        ("u", array(cells.iter().map(|cells| cells.u).collect::<UInt64Array>())),
        ("f", array(cells.iter().map(|cells| cells.f).collect::<Float64Array>())),
        ("g", array(cells.iter().map(|cells| cells.g).collect::<Float32Array>())),
        ("b", array(cells.iter().map(|cells| cells.b).collect::<BooleanArray>())),
        ("t", array(texts)),
        ("s", array(views)),
        ("d", array(packed)),
    ])
}

fn row_of(cells: &Cells) -> Row {
    let integer = |value: Option<i128>| value.map_or(Value::Null, Value::Integer);
    let float = |value: Option<f64>| value.map_or(Value::Null, Value::Float);
    let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::Text);
    vec![
        ("i", integer(cells.i.map(i128::from))),
        ("l", integer(cells.l.map(i128::from))),
        ("u", integer(cells.u.map(i128::from))),
        ("f", float(cells.f)),
        ("g", float(cells.g.map(f64::from))),
        ("b", cells.b.map_or(Value::Null, Value::Bool)),
        ("t", text(&cells.t)),
        ("s", text(&cells.s)),
        ("d", text(&cells.t)),
    ]
}

/// Neither `u` nor null: what is null by another part is not computed, and so need not fail.
fn number() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "i",
        "l",
        "f",
        "g",
        "0",
        "1",
        "2",
        "-1",
        "2.5",
        "0.1",
        "0.0",
        "3000000000",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 2, |inner| {
        let sign = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        prop_oneof![
            4 => (inner.clone(), sign, inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            1 => inner.prop_map(|inner| format!("-({inner})")),
        ]
    })
}

fn condition() -> impl Strategy<Value = String> {
    let sign = || prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
    let text = || prop::sample::select(vec!["t", "s", "d", "'a'", "''", "null"]);
    let not = || prop::sample::select(vec!["", "not "]);
    let few =
        prop::sample::select(vec!["1", "0, null", "2.5, 1", "-1, 0, 1, 2, 3, 4, 5, 6, 2.0, 0.1"]);
    let many = prop::sample::select(vec!["'a'", "null, 'b'", "'a','b','ab','b%','','aa','bb','%'"]);
    let pattern = prop::sample::select(vec!["a%", "%b", "_", "%a_%", "", "%", "ab", "_%_"]);
    let list = || prop::sample::select(vec!["i", "l", "u", "f", "g", "(i + 1)"]);
    let leaf = prop_oneof![
        (number(), sign(), number()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (number(), sign()).prop_map(|(a, sign)| format!("{a} {sign} u")),
        (text(), sign(), text()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        (list(), not(), few).prop_map(|(a, not, list)| format!("{a} {not}in ({list})")),
        (prop::sample::select(vec!["t", "s", "d"]), not(), many)
            .prop_map(|(a, not, list)| format!("{a} {not}in ({list})")),
        (text(), not(), pattern).prop_map(|(a, not, like)| format!("{a} {not}like '{like}'")),
        (number(), not()).prop_map(|(a, not)| format!("{a} is {not}null")),
        Just("b".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} and {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} or {b})")),
            inner.prop_map(|a| format!("not ({a})")),
        ]
    })
}

/// What the vectorised expression makes of the rows, as values.
fn vectorised(text: &str, batch: &RecordBatch) -> Result<Vec<Value>, String> {
    let config = serde_json::json!({ "columns": [{ "name": "x", "value": text }] });
    let made = one(&mut *processor("project", config), batch).map_err(|error| error.to_string())?;
    let column = made[0].column(0);
    let value = |row: usize| match column.data_type() {
        _ if column.is_null(row) => Value::Null,
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int64 => Value::Integer(column.as_primitive::<Int64Type>().value(row).into()),
        DataType::Float64 => Value::Float(column.as_primitive::<Float64Type>().value(row)),
        other if other.is_integer() || other.is_floating() => {
            let wide =
                if other.is_integer() { DataType::Decimal128(20, 0) } else { DataType::Float64 };
            let wide = cast(column, &wide).unwrap();
            match wide.data_type() {
                DataType::Float64 => Value::Float(wide.as_primitive::<Float64Type>().value(row)),
                _ => Value::Integer(
                    wide.as_primitive::<arrow_array::types::Decimal128Type>().value(row),
                ),
            }
        }
        other => panic!("{other} of `{text}`"),
    };
    Ok((0..column.len()).map(value).collect())
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Float(left), Value::Float(right)) => {
            left == right || (left.is_nan() && right.is_nan())
        }
        _ => left == right,
    }
}

fn agree(text: &str, cells: &[Cells]) -> Result<(), TestCaseError> {
    let expression: Expression = text.parse().unwrap();
    let naive: Vec<_> =
        cells.iter().map(|cells| naive::evaluate(expression.root(), &row_of(cells))).collect();
    let own = vectorised(text, &batch_of(cells));
    match naive.iter().position(Result::is_err) {
        Some(row) => {
            let error = own.expect_err(text);
            let place = format!("row {} of the batch", row + 1);
            prop_assert!(error.contains(&place), "`{text}`: {error}, not {place}");
        }
        None => {
            let own = own.map_err(|error| TestCaseError::fail(format!("`{text}`: {error}")))?;
            for ((own, naive), cells) in own.iter().zip(&naive).zip(cells) {
                let naive = naive.as_ref().unwrap();
                prop_assert!(is_same(own, naive), "`{text}` of {cells:?}: {own:?}, not {naive:?}");
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn conditions_are_what_they_are_row_by_row(
        text in condition(),
        cells in prop::collection::vec(cells(), 1..20),
    ) {
        agree(&text, &cells)?;
    }

    #[test]
    fn numbers_are_what_they_are_row_by_row(
        text in number(),
        cells in prop::collection::vec(cells(), 1..20),
    ) {
        agree(&text, &cells)?;
    }

    #[test]
    fn a_filter_keeps_the_rows_that_are_true(
        text in condition(),
        cells in prop::collection::vec(cells(), 1..20),
    ) {
        let expression: Expression = text.parse().unwrap();
        let answers: Vec<_> =
            cells.iter().map(|cells| naive::evaluate(expression.root(), &row_of(cells))).collect();
        prop_assume!(answers.iter().all(Result::is_ok));
        let kept = cells.iter().zip(&answers).filter(|(_, answer)| **answer == Ok(Value::Bool(true)));
        let kept: Vec<Cells> = kept.map(|(cells, _)| cells.clone()).collect();
        let config = serde_json::json!({ "where": text });
        let made = one(&mut *processor("filter", config), &batch_of(&cells)).unwrap();
        let rows: usize = made.iter().map(RecordBatch::num_rows).sum();
        prop_assert_eq!(rows, kept.len(), "`{}`", text);
        if let Some(made) = made.first() {
            // Debug text: NaN is not equal to itself.
            prop_assert_eq!(format!("{made:?}"), format!("{:?}", take_again(&kept, made)));
        }
    }
}

/// The rows as a batch; a filter leaves dictionaries as large as they were.
fn take_again(kept: &[Cells], made: &RecordBatch) -> RecordBatch {
    let mut columns = batch_of(kept).columns().to_vec();
    let packed = made.num_columns() - 1;
    assert_eq!(
        &cast(&columns[packed], &DataType::Utf8).unwrap(),
        &cast(made.column(packed), &DataType::Utf8).unwrap()
    );
    columns[packed] = std::sync::Arc::clone(made.column(packed));
    RecordBatch::try_new(made.schema(), columns).unwrap()
}
