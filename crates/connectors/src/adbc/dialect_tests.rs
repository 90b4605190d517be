//! Types and names of databases.

use arrow_schema::UnionFields;

use super::*;

fn sql(dialect: Dialect, data_type: &DataType) -> Option<String> {
    let kept = dialect.kept(data_type)?;
    (kept != DataType::Null).then(|| dialect.sql(&kept).unwrap())
}

fn list(item: DataType) -> DataType {
    DataType::LargeList(Arc::new(Field::new("any", item, false)))
}

fn structure(fields: Vec<(&str, DataType)>) -> DataType {
    let field = |(name, data_type)| Field::new(name, data_type, true);
    DataType::Struct(fields.into_iter().map(field).collect())
}

#[test]
fn each_type_has_a_name_where_it_has_a_place() {
    let nested = list(structure(vec![("a \"b", DataType::Utf8View), ("c", DataType::UInt8)]));
    let text = DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::LargeUtf8));
    let seconds = DataType::Timestamp(TimeUnit::Second, None);
    let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into()));
    let union = DataType::Union(UnionFields::empty(), arrow_schema::UnionMode::Dense);
    let pairs = map(DataType::Utf8, DataType::Int32);
    for (data_type, duckdb, sqlite, standard) in [
        (DataType::Boolean, Some("BOOLEAN"), Some("INTEGER"), Some("BOOLEAN")),
        (DataType::UInt8, Some("UTINYINT"), Some("INTEGER"), Some("SMALLINT")),
        (DataType::UInt64, Some("UBIGINT"), Some("INTEGER"), None),
        (DataType::Float16, Some("REAL"), Some("REAL"), Some("REAL")),
        (DataType::Float64, Some("DOUBLE PRECISION"), Some("REAL"), Some("DOUBLE PRECISION")),
        (text, Some("TEXT"), Some("TEXT"), Some("TEXT")),
        (DataType::BinaryView, Some("BLOB"), Some("BLOB"), Some("BYTEA")),
        (DataType::Decimal64(10, 2), Some("NUMERIC(10, 2)"), Some("TEXT"), Some("NUMERIC(10, 2)")),
        (DataType::Decimal256(50, 2), None, Some("TEXT"), None),
        (seconds, Some("TIMESTAMP_S"), Some("TEXT"), Some("TIMESTAMP")),
        (zoned, Some("TIMESTAMP WITH TIME ZONE"), Some("TEXT"), Some("TIMESTAMP WITH TIME ZONE")),
        (DataType::Duration(TimeUnit::Second), Some("INTERVAL"), None, None),
        (list(DataType::Int64), Some("BIGINT[]"), Some("TEXT"), Some("BIGINT[]")),
        (nested, Some("STRUCT(\"a \"\"b\" TEXT, \"c\" UTINYINT)[]"), Some("TEXT"), Some("TEXT")),
        (pairs, Some("MAP(TEXT, INTEGER)"), Some("TEXT"), Some("TEXT")),
        (union, None, None, None),
    ] {
        for (dialect, expected) in
            [(Dialect::DuckDb, duckdb), (Dialect::Sqlite, sqlite), (Dialect::Standard, standard)]
        {
            let found = sql(dialect, &data_type);
            assert_eq!(found.as_deref(), expected, "{data_type} in {dialect:?}");
        }
    }
}

#[test]
fn what_is_kept_stays_as_it_is() {
    for dialect in [Dialect::DuckDb, Dialect::Sqlite, Dialect::Standard] {
        for data_type in [
            DataType::Int8,
            DataType::Utf8View,
            DataType::Timestamp(TimeUnit::Millisecond, Some("Etc/UTC".into())),
            list(list(DataType::Float16)),
            structure(vec![("a", list(DataType::Date64))]),
        ] {
            let Some(kept) = dialect.kept(&data_type) else { continue };
            assert_eq!(dialect.kept(&kept), Some(kept));
        }
    }
}

#[test]
fn what_has_no_type_yet_has_none_in_the_depth_either() {
    let kept = |data_type| Dialect::DuckDb.kept(&data_type);
    assert_eq!(kept(list(DataType::Null)), Some(DataType::Null));
    assert_eq!(kept(structure(vec![("a", list(DataType::Null))])), Some(DataType::Null));
    let half = structure(vec![("a", DataType::Null), ("b", DataType::Int8)]);
    assert_eq!(kept(half), Some(structure(vec![("b", DataType::Int8)])));
}

#[test]
fn quotes_hold() {
    assert_eq!(identifier("a\"b").unwrap(), "\"a\"\"b\"");
    assert_eq!(literal("a'b").unwrap(), "'a''b'");
    assert!(identifier("a\0").is_err() && literal("\0").is_err());
}

#[test]
fn databases_are_known_by_their_name() {
    for (vendor, dialect) in [
        ("duckdb", Dialect::DuckDb),
        ("SQLite", Dialect::Sqlite),
        ("PostgreSQL", Dialect::Standard),
        ("", Dialect::Standard),
    ] {
        assert_eq!(Dialect::of(vendor), dialect);
    }
    for (declared, kept) in [
        ("BIGINT", DataType::Int64),
        ("double precision", DataType::Float64),
        ("VARCHAR(9)", DataType::Utf8),
        ("BLOB", DataType::Binary),
        ("", DataType::Null),
    ] {
        assert_eq!(Dialect::declared(declared), kept);
    }
    assert_eq!(Dialect::decimal("numeric(12,3)"), Some(DataType::Decimal128(12, 3)));
    for other in ["numeric", "numeric(50,2)", "integer(32,0)", "text"] {
        assert_eq!(Dialect::decimal(other), None);
    }
}
