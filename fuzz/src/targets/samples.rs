//! Record batches of many types, from which seeds are made.

use std::sync::Arc;

use arrow_array::builder::{
    FixedSizeListBuilder, Int32Builder, ListBuilder, MapBuilder, StringBuilder,
    StringDictionaryBuilder,
};
use arrow_array::types::Int8Type;
use arrow_array::{
    ArrayRef, BinaryViewArray, BooleanArray, Decimal128Array, FixedSizeBinaryArray, Float64Array,
    Int32Array, Int64Array, NullArray, RecordBatch, RunArray, StringArray, StringViewArray,
    StructArray, TimestampMicrosecondArray, UnionArray,
};
use arrow_schema::{DataType, Field, UnionFields};
use sheaf_flight::Message;
use sheaf_flight::ipc::{Compression, Encoder};

/// One column of numbers.
pub(crate) fn numbers(rows: i64) -> RecordBatch {
    of("n", Arc::new(Int64Array::from_iter((0..rows).map(|n| (n % 3 != 1).then_some(n)))))
}

fn of(name: &str, column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([(name, column, true)]).expect("a batch")
}

/// Streams as clients send them: few rows, each of other types.
pub(crate) fn streams() -> Vec<Vec<Message>> {
    let mut streams: Vec<Vec<Message>> = columns()
        .into_iter()
        .map(|column| encoded(&[of("c", column)], Compression::None))
        .collect();
    streams.push(encoded(&[numbers(3), numbers(0), numbers(2)], Compression::None));
    streams.push(encoded(&[numbers(64)], Compression::Zstd));
    streams.push(encoded(&[numbers(64)], Compression::Lz4));
    streams.push(encoded(&[words(&["a", "b"]), words(&["a", "b", "c"])], Compression::None));
    streams
}

fn encoded(batches: &[RecordBatch], compression: Compression) -> Vec<Message> {
    let (mut encoder, schema) =
        Encoder::try_new(batches[0].schema(), compression).expect("an encoder");
    let mut messages = vec![schema];
    for batch in batches {
        messages.extend(encoder.encode(batch).expect("a batch"));
    }
    messages
}

fn words(words: &[&str]) -> RecordBatch {
    let mut builder = StringDictionaryBuilder::<Int8Type>::new();
    builder.extend(words.iter().map(|&word| Some(word)));
    of("d", Arc::new(builder.finish()))
}

fn columns() -> Vec<ArrayRef> {
    let numbers = Int32Array::from(vec![Some(1), None, Some(3)]);
    let strings = StringArray::from(vec![Some("a"), None, Some("long enough for a view")]);
    let decimal = Decimal128Array::from(vec![Some(12_345), None, Some(-1)]);
    let fixed = FixedSizeBinaryArray::try_from_iter([[1_u8, 2], [3, 4], [5, 6]].iter());
    let runs = RunArray::<arrow_array::types::Int32Type>::try_new(
        &Int32Array::from(vec![2, 3]),
        &StringArray::from(vec!["x", "y"]),
    );
    vec![
        Arc::new(numbers),
        Arc::new(strings.clone()),
        Arc::new(StringViewArray::from_iter(strings.iter())),
        Arc::new(BinaryViewArray::from_iter([Some(&b"\xff"[..]), None, Some(b"")])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Float64Array::from(vec![f64::NAN, -0.0, 1.5])),
        Arc::new(TimestampMicrosecondArray::from(vec![0, 1, -1]).with_timezone("Europe/Berlin")),
        Arc::new(decimal.with_precision_and_scale(10, 2).expect("a decimal")),
        Arc::new(fixed.expect("fixed size")),
        Arc::new(NullArray::new(3)),
        Arc::new(runs.expect("runs")),
        nested_lists(),
        map(),
        structure(),
        union(),
        Arc::clone(words(&["a", "b", "a"]).column(0)),
    ]
}

fn nested_lists() -> ArrayRef {
    let fixed = FixedSizeListBuilder::new(Int32Builder::new(), 2);
    let mut lists = ListBuilder::new(fixed);
    lists.values().values().append_slice(&[1, 2]);
    lists.values().append(true);
    lists.append(true);
    lists.append(false);
    lists.append(true);
    Arc::new(lists.finish())
}

fn map() -> ArrayRef {
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).expect("as many keys as values");
    map.append(true).expect("as many keys as values");
    Arc::new(map.finish())
}

fn structure() -> ArrayRef {
    let field = |name: &str, kind| Arc::new(Field::new(name, kind, true));
    let columns: Vec<(_, ArrayRef)> = vec![
        (field("a", DataType::Int32), Arc::new(Int32Array::from(vec![1, 2]))),
        (field("b", DataType::Utf8), Arc::new(StringArray::from(vec![Some("x"), None]))),
    ];
    Arc::new(StructArray::from(columns))
}

fn union() -> ArrayRef {
    let fields = [Field::new("i", DataType::Int32, true), Field::new("s", DataType::Utf8, true)];
    let fields = UnionFields::try_new([0, 5], fields).expect("fields");
    let children: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![1])), Arc::new(StringArray::from(vec!["x"]))];
    let offsets = Some(vec![0, 0].into());
    Arc::new(UnionArray::try_new(fields, vec![0, 5].into(), offsets, children).expect("a union"))
}
