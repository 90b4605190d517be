//! How columns grow.

use proptest::prelude::*;

use super::*;

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn structure(fields: &[(&str, DataType)]) -> DataType {
    let field = |(name, kept): &(&str, DataType)| Field::new(*name, kept.clone(), true);
    DataType::Struct(fields.iter().map(field).collect())
}

fn column(name: &str, kept: DataType) -> Column {
    Column { name: name.into(), kept }
}

#[test]
fn types_widen_to_what_holds_both() {
    let decimal = DataType::Decimal128;
    let timestamp = |unit, zone: Option<&str>| DataType::Timestamp(unit, zone.map(Into::into));
    for (a, b, expected) in [
        (DataType::Int8, DataType::Int64, Some(DataType::Int64)),
        (DataType::UInt8, DataType::UInt32, Some(DataType::UInt32)),
        (DataType::UInt32, DataType::Int8, Some(DataType::Int64)),
        (DataType::UInt64, DataType::Int8, None),
        (DataType::Int16, DataType::Float32, Some(DataType::Float32)),
        (DataType::Int32, DataType::Float32, Some(DataType::Float64)),
        (DataType::Int64, DataType::Float64, Some(DataType::Float64)),
        (DataType::Float32, DataType::Float64, Some(DataType::Float64)),
        (decimal(10, 2), decimal(8, 4), Some(decimal(12, 4))),
        (decimal(10, 2), DataType::Int64, Some(decimal(21, 2))),
        (decimal(38, 0), decimal(10, 2), None),
        (decimal(10, 2), DataType::Float64, None),
        (DataType::Null, DataType::Utf8, Some(DataType::Utf8)),
        (DataType::Int64, DataType::Utf8, None),
        (DataType::Boolean, DataType::Int8, None),
        (DataType::Date32, timestamp(TimeUnit::Second, None), None),
        (
            timestamp(TimeUnit::Second, None),
            timestamp(TimeUnit::Nanosecond, None),
            Some(timestamp(TimeUnit::Nanosecond, None)),
        ),
        (timestamp(TimeUnit::Second, None), timestamp(TimeUnit::Second, Some("UTC")), None),
        (list(DataType::Int8), list(DataType::Int16), Some(list(DataType::Int16))),
        (list(DataType::Int8), DataType::Int8, None),
        (
            structure(&[("a", DataType::Int8), ("b", DataType::Utf8)]),
            structure(&[("c", DataType::Utf8), ("a", DataType::Int16)]),
            Some(structure(&[
                ("a", DataType::Int16),
                ("b", DataType::Utf8),
                ("c", DataType::Utf8),
            ])),
        ),
        (structure(&[("a", DataType::Int8)]), structure(&[("a", DataType::Utf8)]), None),
    ] {
        assert_eq!(widen(&a, &b), expected, "{a} and {b}");
    }
}

fn any_number() -> impl Strategy<Value = DataType> {
    prop_oneof![
        Just(DataType::Int8),
        Just(DataType::Int16),
        Just(DataType::Int32),
        Just(DataType::Int64),
        Just(DataType::UInt8),
        Just(DataType::UInt16),
        Just(DataType::UInt32),
        Just(DataType::UInt64),
        Just(DataType::Float32),
        Just(DataType::Float64),
        (1_u8..=38, 0_i8..9)
            .prop_map(|(precision, scale)| DataType::Decimal128(precision.max(scale as u8), scale)),
    ]
}

proptest! {
    #[test]
    fn widening_has_no_direction_and_comes_to_rest(a in any_number(), b in any_number()) {
        let both = widen(&a, &b);
        prop_assert_eq!(&both, &widen(&b, &a));
        if let Some(both) = both {
            prop_assert_eq!(widen(&both, &a), Some(both.clone()));
            prop_assert_eq!(widen(&both, &b), Some(both));
        }
    }
}

#[test]
fn a_table_is_made_and_changed_by_few_statements() {
    let wanted = [column("a", DataType::Int64), column("b \"", DataType::Null)];
    let made = plan(Dialect::DuckDb, "t\"", None, &wanted).unwrap();
    assert_eq!(made.statements, ["CREATE TABLE \"t\"\"\" (\"a\" BIGINT)"]);
    assert!(plan(Dialect::DuckDb, "t", None, &wanted[1..]).is_err());

    let existing = || Some(vec![column("A", DataType::Int8), column("z", DataType::Utf8)]);
    let wanted = [column("a", DataType::Int64), column("b", DataType::Utf8)];
    let changed = plan(Dialect::DuckDb, "t", existing(), &wanted).unwrap();
    let widen = "ALTER TABLE \"t\" ALTER COLUMN \"A\" TYPE BIGINT";
    let add = "ALTER TABLE \"t\" ADD COLUMN \"b\" TEXT";
    assert_eq!(changed.statements, [widen, add]);
    let names: Vec<_> = changed.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["A", "z", "b"]);
    let again = plan(Dialect::DuckDb, "t", Some(changed.columns.clone()), &wanted).unwrap();
    assert_eq!(again, Plan { statements: Vec::new(), columns: changed.columns });

    // SQLite does not change types; for PostgreSQL `a` is another column.
    assert_eq!(plan(Dialect::Sqlite, "t", existing(), &wanted).unwrap().statements, [add]);
    let standard = plan(Dialect::Standard, "t", existing(), &wanted).unwrap();
    assert_eq!(standard.statements, ["ALTER TABLE \"t\" ADD COLUMN \"a\" BIGINT", add]);
}

#[test]
fn names_that_a_database_cannot_tell_apart_are_refused() {
    let field = |name| Field::new(name, DataType::Int8, true);
    let schema = Schema::new(vec![field("a"), field("A")]);
    for dialect in [Dialect::DuckDb, Dialect::Sqlite] {
        let error = wanted(dialect, [&schema].into_iter()).unwrap_err().to_string();
        assert!(error.starts_with("column A is there twice"), "{error}");
    }
    assert_eq!(wanted(Dialect::Standard, [&schema].into_iter()).unwrap().len(), 2);
}
