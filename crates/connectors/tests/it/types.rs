//! What goes into a file comes out of it: every Arrow type, any cut.

use std::sync::Arc;

use arrow_array::builder::*;
use arrow_array::types::*;
use arrow_array::*;

use arrow_buffer::{IntervalDayTime, IntervalMonthDayNano, OffsetBuffer, ScalarBuffer, i256};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit, UnionFields, UnionMode};
use arrow_select::concat::concat_batches;
use futures::TryStreamExt as _;
use proptest::prelude::*;
use sheaf_connectors::{Error, FileFormat, FileSource, Sink as _, Source as _, SourceOptions};
use sheaf_retry::{Code, Retryable as _};

use crate::common::{self, key};

/// Values from a seed: small, large and missing ones.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn some<T>(&mut self, rows: usize, mut value: impl FnMut(u64) -> T) -> Vec<Option<T>> {
        (0..rows).map(|_| self.next()).map(|n| (n % 5 != 0).then(|| value(n))).collect()
    }
}

fn primitive<T: ArrowPrimitiveType>(
    numbers: &mut Numbers,
    rows: usize,
    value: impl FnMut(u64) -> T::Native,
) -> PrimitiveArray<T> {
    numbers.some(rows, value).into_iter().collect()
}

fn strings(numbers: &mut Numbers, rows: usize) -> Vec<Option<String>> {
    numbers
        .some(rows, |n| format!("{}{}", "größer ".repeat(usize::try_from(n % 4).unwrap()), n % 7))
}

fn offsets(rows: usize) -> (OffsetBuffer<i32>, usize) {
    let lengths: Vec<usize> = (0..rows).map(|row| row % 3).collect();
    let total = lengths.iter().sum();
    (OffsetBuffer::from_lengths(lengths), total)
}

#[allow(
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "one line a type"
)]
fn columns(seed: u64, rows: usize) -> Vec<(&'static str, ArrayRef)> {
    let mut numbers = Numbers(seed);
    let n = &mut numbers;
    let text = strings(n, rows);
    let refs = || text.iter().map(|t| t.as_deref());
    let bytes = || text.iter().map(|t| t.as_ref().map(|t| t.as_bytes()));
    let fixed = |width: i32| {
        let values = (0..rows).map(|r| (r % 4 != 1).then(|| vec![r as u8; width as usize]));
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, width).unwrap()
    };
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let (ends, total) = offsets(rows);
    let items = Arc::new(primitive::<Int32Type>(n, total, |n| n as i32));
    let list = ListArray::new(Arc::clone(&item), ends.clone(), items.clone(), None);
    let large = LargeListArray::new(
        Arc::clone(&item),
        OffsetBuffer::from_lengths((0..rows).map(|row| row % 3)),
        items.clone(),
        None,
    );
    let view = ListViewArray::new(
        Arc::clone(&item),
        (0..rows).map(|row| ends[row]).collect::<ScalarBuffer<i32>>(),
        (0..rows).map(|row| (row % 3) as i32).collect::<ScalarBuffer<i32>>(),
        items.clone(),
        None,
    );
    let fixed_list = FixedSizeListArray::new(
        Arc::clone(&item),
        2,
        Arc::new(primitive::<Int32Type>(n, rows * 2, |n| n as i32)),
        None,
    );
    let inner: Fields = vec![
        Field::new("a", DataType::Int64, true),
        Field::new("b", list.data_type().clone(), true),
    ]
    .into();
    let structs = StructArray::new(
        inner,
        vec![Arc::new(primitive::<Int64Type>(n, rows, |n| n as i64)), Arc::new(list.clone())],
        Some((0..rows).map(|row| row % 4 != 2).collect::<Vec<_>>().into()),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    for row in 0..rows {
        for entry in 0..row % 3 {
            map.keys().append_value(format!("k{entry}"));
            map.values().append_value(row as i32);
        }
        map.append(row % 5 != 4).unwrap();
    }
    let dictionary: DictionaryArray<Int8Type> = (0..rows)
        .map(|row| (row % 6 != 5).then(|| ["x", "y", "z"][(row + seed as usize) % 3]))
        .collect();
    let mut runs = PrimitiveRunBuilder::<Int32Type, Int64Type>::new();
    runs.extend((0..rows).map(|row| (row % 8 != 7).then_some((row / 3) as i64)));
    let union = UnionArray::try_new(
        [
            (0, Arc::new(Field::new("i", DataType::Int32, true))),
            (1, Arc::new(Field::new("s", DataType::Utf8, true))),
        ]
        .into_iter()
        .collect::<UnionFields>(),
        (0..rows).map(|row| (row % 2) as i8).collect::<ScalarBuffer<i8>>(),
        None,
        vec![
            Arc::new(primitive::<Int32Type>(n, rows, |n| n as i32)),
            Arc::new(StringArray::from_iter(refs())),
        ],
    )
    .unwrap();
    let decimal = |n: u64| i128::from(n) * 1_000_000_007 - 99;
    vec![
        ("null", Arc::new(NullArray::new(rows))),
        ("boolean", Arc::new(BooleanArray::from(n.some(rows, |n| n % 2 == 0)))),
        ("int8", Arc::new(primitive::<Int8Type>(n, rows, |n| n as i8))),
        ("int16", Arc::new(primitive::<Int16Type>(n, rows, |n| n as i16))),
        ("int32", Arc::new(primitive::<Int32Type>(n, rows, |n| n as i32))),
        ("int64", Arc::new(primitive::<Int64Type>(n, rows, |n| (n as i64) << 31))),
        ("uint8", Arc::new(primitive::<UInt8Type>(n, rows, |n| n as u8))),
        ("uint16", Arc::new(primitive::<UInt16Type>(n, rows, |n| n as u16))),
        ("uint32", Arc::new(primitive::<UInt32Type>(n, rows, |n| n as u32))),
        ("uint64", Arc::new(primitive::<UInt64Type>(n, rows, |n| u64::MAX - n))),
        (
            "float16",
            Arc::new(primitive::<Float16Type>(n, rows, |n| {
                <Float16Type as ArrowPrimitiveType>::Native::from_f32(n as u8 as f32 / 4.0)
            })),
        ),
        ("float32", Arc::new(primitive::<Float32Type>(n, rows, |n| n as f32 / 7.0))),
        ("float64", Arc::new(primitive::<Float64Type>(n, rows, |n| n as f64 / 7.0))),
        (
            "decimal32",
            Arc::new(
                primitive::<Decimal32Type>(n, rows, |n| (n % 1_000_000) as i32)
                    .with_precision_and_scale(7, 2)
                    .unwrap(),
            ),
        ),
        (
            "decimal64",
            Arc::new(
                primitive::<Decimal64Type>(n, rows, |n| n as i64)
                    .with_precision_and_scale(16, 3)
                    .unwrap(),
            ),
        ),
        (
            "decimal128",
            Arc::new(
                primitive::<Decimal128Type>(n, rows, decimal)
                    .with_precision_and_scale(30, 4)
                    .unwrap(),
            ),
        ),
        (
            "decimal256",
            Arc::new(
                primitive::<Decimal256Type>(n, rows, |n| i256::from_i128(decimal(n)))
                    .with_precision_and_scale(60, 5)
                    .unwrap(),
            ),
        ),
        ("date32", Arc::new(primitive::<Date32Type>(n, rows, |n| n as u16 as i32))),
        (
            "date64",
            Arc::new(primitive::<Date64Type>(n, rows, |n| i64::from(n as u16) * 86_400_000)),
        ),
        ("time32_s", Arc::new(primitive::<Time32SecondType>(n, rows, |n| (n % 86_400) as i32))),
        (
            "time32_ms",
            Arc::new(primitive::<Time32MillisecondType>(n, rows, |n| (n % 86_400_000) as i32)),
        ),
        ("time64_us", Arc::new(primitive::<Time64MicrosecondType>(n, rows, |n| n as i64))),
        ("time64_ns", Arc::new(primitive::<Time64NanosecondType>(n, rows, |n| n as i64))),
        ("timestamp_s", Arc::new(primitive::<TimestampSecondType>(n, rows, |n| n as i64))),
        ("timestamp_ms", Arc::new(primitive::<TimestampMillisecondType>(n, rows, |n| n as i64))),
        (
            "timestamp_us_zoned",
            Arc::new(
                primitive::<TimestampMicrosecondType>(n, rows, |n| n as i64)
                    .with_timezone("Europe/Berlin"),
            ),
        ),
        ("timestamp_ns", Arc::new(primitive::<TimestampNanosecondType>(n, rows, |n| n as i64))),
        ("duration_s", Arc::new(primitive::<DurationSecondType>(n, rows, |n| n as i64))),
        ("duration_ns", Arc::new(primitive::<DurationNanosecondType>(n, rows, |n| n as i64))),
        ("interval_ym", Arc::new(primitive::<IntervalYearMonthType>(n, rows, |n| n as u8 as i32))),
        (
            "interval_dt",
            Arc::new(primitive::<IntervalDayTimeType>(n, rows, |n| {
                IntervalDayTime::new(n as u8 as i32, 5)
            })),
        ),
        (
            "interval_mdn",
            Arc::new(primitive::<IntervalMonthDayNanoType>(n, rows, |n| {
                IntervalMonthDayNano::new(n as u8 as i32, 2, 3)
            })),
        ),
        ("utf8", Arc::new(StringArray::from_iter(refs()))),
        ("large_utf8", Arc::new(LargeStringArray::from_iter(refs()))),
        ("utf8_view", Arc::new(StringViewArray::from_iter(refs()))),
        ("binary", Arc::new(BinaryArray::from_iter(bytes()))),
        ("large_binary", Arc::new(LargeBinaryArray::from_iter(bytes()))),
        ("binary_view", Arc::new(BinaryViewArray::from_iter(bytes()))),
        ("fixed_binary", Arc::new(fixed(5))),
        ("list", Arc::new(list)),
        ("large_list", Arc::new(large)),
        ("list_view", Arc::new(view)),
        ("fixed_list", Arc::new(fixed_list)),
        ("struct", Arc::new(structs)),
        ("map", Arc::new(map.finish())),
        ("dictionary", Arc::new(dictionary)),
        ("run_end", Arc::new(runs.finish())),
        ("union", Arc::new(union)),
    ]
}

fn batch(seed: u64, rows: usize, keep: impl Fn(&str) -> bool) -> RecordBatch {
    let columns: Vec<_> = columns(seed, rows).into_iter().filter(|(name, _)| keep(name)).collect();
    let fields = columns.iter().map(|(name, column)| {
        let metadata: std::collections::HashMap<_, _> =
            [("unit".to_owned(), (*name).to_owned())].into();
        Field::new(*name, column.data_type().clone(), true).with_metadata(metadata)
    });
    let metadata: std::collections::HashMap<_, _> =
        [("owner".to_owned(), "tests".to_owned())].into();
    let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata));
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new_with_options(schema, columns, &options).unwrap()
}

/// Writes and reads back; the rows in batches of `rows_per_batch`.
async fn there_and_back(
    format: FileFormat,
    schema: SchemaRef,
    batches: &[RecordBatch],
    rows_per_batch: usize,
) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    let dir = tempfile::tempdir().unwrap();
    let sink = common::sink(dir.path(), format).await;
    let committed = common::write(&*sink, &key("t", 1), schema, batches).await?;
    let source = FileSource::open(&committed.place, SourceOptions::default()).await?;
    let read = source.read(rows_per_batch).await?.try_collect().await?;
    Ok((source.schema().await?, read))
}

/// What Parquet has no place for.
fn fits_parquet(name: &str) -> bool {
    !["union", "interval_mdn"].contains(&name)
}

#[tokio::test]
async fn every_type_alone_comes_back_or_is_refused_by_name() {
    let names: Vec<_> = columns(1, 1).into_iter().map(|(name, _)| name).collect();
    for format in [FileFormat::Parquet, FileFormat::Ipc] {
        for name in &names {
            let given = batch(7, 40, |column| column == *name);
            let result =
                there_and_back(format, given.schema(), std::slice::from_ref(&given), 100).await;
            if format == FileFormat::Parquet && !fits_parquet(name) {
                let error = result.map(|_| ()).unwrap_err();
                assert!(matches!(&error, Error::Unsupported { column, .. } if column == name));
                continue;
            }
            let (schema, read) = result.unwrap_or_else(|e| panic!("{format} {name}: {e:?}"));
            assert_eq!(schema, given.schema(), "{format} {name}");
            assert_eq!(read, [given], "{format} {name}");
        }
    }
}

#[tokio::test]
async fn what_the_check_lets_through_can_be_written() {
    // Against the writers themselves: an upgrade that changes what they know shows here.
    for format in [FileFormat::Csv, FileFormat::Json] {
        for (name, _) in columns(1, 1) {
            let given = batch(7, 40, |column| column == name);
            let dir = tempfile::tempdir().unwrap();
            let sink = common::sink(dir.path(), format).await;
            match common::write(&*sink, &key("t", 1), given.schema(), &[given]).await {
                Ok(committed) => assert_eq!(committed.rows, 40),
                Err(Error::Unsupported { column, .. }) => assert_eq!(column, name),
                Err(other) => panic!("{format} {name}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn empty_results_and_results_without_columns_keep_schema_and_rows() {
    for format in [FileFormat::Parquet, FileFormat::Ipc] {
        let keep = |name: &str| format == FileFormat::Ipc || fits_parquet(name);
        let schema = batch(1, 0, keep).schema();
        let (read_schema, read) =
            there_and_back(format, Arc::clone(&schema), &[], 10).await.unwrap();
        assert_eq!((read_schema, read), (schema, vec![]), "{format}");
    }
    let bare = batch(1, 25, |_| false);
    let there =
        there_and_back(FileFormat::Ipc, bare.schema(), std::slice::from_ref(&bare), 10).await;
    let sizes: Vec<_> = there.unwrap().1.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [10, 10, 5]);
    for format in [FileFormat::Parquet, FileFormat::Csv] {
        let refused = there_and_back(format, bare.schema(), std::slice::from_ref(&bare), 10).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument, "{format}");
    }
}

#[tokio::test]
async fn structs_without_fields_are_refused_where_they_cannot_be() {
    let empty = DataType::Struct(Fields::empty());
    let schema = Arc::new(Schema::new(vec![Field::new("e", empty, true)]));
    let dir = tempfile::tempdir().unwrap();
    let sink = common::sink(dir.path(), FileFormat::Parquet).await;
    let error = sink.prepare(&key("e", 1), schema).await.map(drop).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.to_string().starts_with("column e: Parquet"), "{error}");
}

#[test]
fn the_table_of_types_is_whole() {
    let all = columns(3, 30);
    assert_eq!(all.len(), 48);
    assert!(all.iter().all(|(_, column)| column.len() == 30));
    let sparse = |t: &DataType| matches!(t, DataType::Union(_, UnionMode::Sparse));
    assert!(all.iter().any(|(_, column)| sparse(column.data_type())));
    let seconds = DataType::Timestamp(TimeUnit::Second, None);
    assert!(all.iter().any(|(_, column)| *column.data_type() == seconds));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_columns_in_any_cut_come_back(
        parquet in any::<bool>(),
        mask in any::<u64>(),
        sizes in prop::collection::vec(0usize..40, 1..5),
        seed in any::<u32>(),
        rows_per_batch in 1usize..60,
    ) {
        let format = if parquet { FileFormat::Parquet } else { FileFormat::Ipc };
        let names: Vec<_> = columns(1, 1).into_iter().map(|(name, _)| name).collect();
        let keep = |name: &str| {
            let place = names.iter().position(|n| *n == name).unwrap();
            mask >> place & 1 == 1 && (!parquet || fits_parquet(name))
        };
        let given: Vec<_> = sizes.iter().enumerate()
            .map(|(n, rows)| batch(u64::from(seed) + n as u64, *rows, keep)).collect();
        let schema = given[0].schema();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (read_schema, read) = runtime
            .block_on(there_and_back(format, Arc::clone(&schema), &given, rows_per_batch)).unwrap();
        prop_assert_eq!(&read_schema, &schema);
        if let Some((_, full)) = read.split_last() {
            prop_assert!(full.iter().all(|batch| batch.num_rows() == rows_per_batch));
        }
        let (one, other) = (concat_batches(&schema, &given).unwrap(), concat_batches(&schema, &read).unwrap());
        for (column, field) in schema.fields().iter().enumerate() {
            prop_assert_eq!(one.column(column), other.column(column), "{} in {}", field.name(), format);
        }
        prop_assert_eq!(one.num_rows(), other.num_rows());
    }
}
