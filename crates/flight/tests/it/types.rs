//! Record batches of every Arrow type, made from a seed.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, make_array, new_empty_array};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow_data::{ArrayData, ArrayDataBuilder};
use arrow_ipc::{KeyValue, KeyValueArgs, MessageArgs, RecordBatchArgs};
use arrow_schema::{
    DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit, UnionFields,
    UnionMode,
};
use bytes::Bytes;
use flatbuffers::FlatBufferBuilder;
use sheaf_flight::Message;

/// Numbers from a seed: splitmix64.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, true))
}

/// Every type, the nested ones with several kinds of children.
pub(crate) fn all() -> Vec<DataType> {
    use DataType::*;
    let units =
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let mut types = vec![
        Null,
        Boolean,
        Int8,
        Int16,
        Int32,
        Int64,
        UInt8,
        UInt16,
        UInt32,
        UInt64,
        Float16,
        Float32,
        Float64,
        Date32,
        Date64,
        Binary,
        LargeBinary,
        BinaryView,
        Utf8,
        LargeUtf8,
        Utf8View,
        FixedSizeBinary(0),
        FixedSizeBinary(3),
        Decimal32(9, 2),
        Decimal64(18, 3),
        Decimal128(38, 10),
        Decimal256(76, -5),
        Time32(TimeUnit::Second),
        Time32(TimeUnit::Millisecond),
        Time64(TimeUnit::Microsecond),
        Time64(TimeUnit::Nanosecond),
    ];
    types.extend(units.map(Duration));
    types.extend(units.map(|unit| Timestamp(unit, None)));
    types.extend(units.map(|unit| Timestamp(unit, Some("Europe/Berlin".into()))));
    types.extend(
        [IntervalUnit::YearMonth, IntervalUnit::DayTime, IntervalUnit::MonthDayNano].map(Interval),
    );
    types.extend(nested());
    types
}

/// The types that have children.
fn nested() -> Vec<DataType> {
    use DataType::*;
    let two = || Fields::from(vec![Field::new("a", Int16, true), Field::new("b", Utf8, true)]);
    let entries = Field::new(
        "entries",
        Struct(Fields::from(vec![
            Field::new("keys", Utf8, false),
            Field::new("values", Int32, true),
        ])),
        false,
    );
    let mut types = vec![
        List(item(Int32)),
        LargeList(item(Utf8View)),
        ListView(item(Int64)),
        LargeListView(item(Utf8)),
        FixedSizeList(item(Float32), 2),
        List(item(Struct(two()))),
        FixedSizeList(item(List(item(Boolean))), 3),
        Struct(two()),
        Struct(Fields::empty()),
        Struct(Fields::from(vec![Field::new("list", List(item(Int8)), true)])),
        Map(Arc::new(entries), false),
        Dictionary(Box::new(Int8), Box::new(Utf8)),
        Dictionary(Box::new(UInt32), Box::new(Int64)),
        List(item(Dictionary(Box::new(Int16), Box::new(LargeUtf8)))),
        RunEndEncoded(
            Arc::new(Field::new("run_ends", Int32, false)),
            Arc::new(Field::new("values", Utf8, true)),
        ),
    ];
    for mode in [UnionMode::Sparse, UnionMode::Dense] {
        let fields = [Field::new("n", Int32, true), Field::new("s", Utf8, true)];
        types.push(Union(UnionFields::try_new([3, 7], fields).unwrap(), mode));
    }
    types
}

/// The schema with a column of every type.
pub(crate) fn schema() -> SchemaRef {
    let fields = all().into_iter().enumerate().map(|(at, data_type)| {
        let metadata = HashMap::from([("column".to_owned(), at.to_string())]);
        Field::new(format!("{at} {data_type}"), data_type, true).with_metadata(metadata)
    });
    let metadata = HashMap::from([("made by".to_owned(), "a seed".to_owned())]);
    Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata))
}

/// A batch of so many rows of every type; some of it is slices of more.
pub(crate) fn batch(schema: &SchemaRef, rows: usize, numbers: &mut Numbers) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| {
        let (before, behind) = match numbers.below(3) {
            0 => (numbers.below(20), numbers.below(20)),
            _ => (0, 0),
        };
        let whole = array(field.data_type(), before + rows + behind, numbers);
        whole.slice(before, rows)
    });
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect(), &options).unwrap()
}

fn nulls(rows: usize, numbers: &mut Numbers) -> Option<NullBuffer> {
    match numbers.below(3) {
        0 => None,
        kind => Some(NullBuffer::new(BooleanBuffer::collect_bool(rows, |_| {
            kind == 1 || numbers.below(4) > 0
        }))),
    }
}

/// Lengths of so many lists, strings or runs.
fn lengths(rows: usize, numbers: &mut Numbers) -> Vec<usize> {
    (0..rows).map(|_| numbers.below(5)).collect()
}

fn offsets<T: TryFrom<usize> + arrow_buffer::ArrowNativeType>(lengths: &[usize]) -> Buffer {
    let mut end = 0;
    let mut all = vec![T::usize_as(0)];
    for length in lengths {
        end += length;
        all.push(T::usize_as(end));
    }
    Buffer::from_vec(all)
}

fn text(numbers: &mut Numbers) -> String {
    let words =
        ["", "a", "grün", "long enough to be no part of a view, and then some", "\0", "日本"];
    words[numbers.below(words.len())].to_owned()
}

fn array(data_type: &DataType, rows: usize, numbers: &mut Numbers) -> ArrayRef {
    if rows == 0 && numbers.below(2) == 0 {
        return new_empty_array(data_type);
    }
    let builder = ArrayData::builder(data_type.clone()).len(rows);
    let data = match data_type {
        DataType::Null => builder,
        DataType::Boolean => {
            let values = numbers.bytes(rows.div_ceil(8));
            builder.add_buffer(values.into()).nulls(nulls(rows, numbers))
        }
        DataType::FixedSizeBinary(width) => {
            let values = numbers.bytes(rows * *width as usize);
            builder.add_buffer(values.into()).nulls(nulls(rows, numbers))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Binary | DataType::LargeBinary => {
            return strings(data_type, rows, numbers);
        }
        DataType::Utf8View => {
            let values = (0..rows).map(|_| (numbers.below(4) > 0).then(|| text(numbers)));
            return Arc::new(arrow_array::StringViewArray::from_iter(values));
        }
        DataType::BinaryView => {
            let values = (0..rows).map(|_| (numbers.below(4) > 0).then(|| text(numbers)));
            return Arc::new(arrow_array::BinaryViewArray::from_iter(values));
        }
        DataType::List(_)
        | DataType::Map(..)
        | DataType::LargeList(_)
        | DataType::ListView(_)
        | DataType::LargeListView(_) => lists(data_type, rows, numbers),
        DataType::FixedSizeList(field, width) => builder
            .add_child_data(child(field, rows * *width as usize, numbers))
            .nulls(nulls(rows, numbers)),
        DataType::Struct(fields) => fields
            .iter()
            .fold(builder, |builder, field| builder.add_child_data(child(field, rows, numbers)))
            .nulls(nulls(rows, numbers)),
        DataType::Union(fields, mode) => return union(fields, *mode, rows, numbers),
        DataType::Dictionary(key, value) => {
            return dictionary(data_type, key, value, rows, numbers);
        }
        DataType::RunEndEncoded(_, _) => {
            let mut words = (0..rows).map(|_| numbers.below(3)).collect::<Vec<_>>();
            words.sort_unstable();
            let words = words.into_iter().map(|word| ["x", "", "yy"].get(word).copied());
            return Arc::new(
                words.collect::<arrow_array::RunArray<arrow_array::types::Int32Type>>(),
            );
        }
        fixed => {
            let width = fixed.primitive_width().unwrap();
            let mut values = numbers.bytes(rows * width);
            // Numbers that a calendar or so many digits allow.
            let unused = match fixed {
                DataType::Decimal32(..)
                | DataType::Decimal64(..)
                | DataType::Decimal128(..)
                | DataType::Decimal256(..)
                | DataType::Time32(_)
                | DataType::Time64(_) => width / 2,
                _ => 0,
            };
            for value in values.chunks_mut(width) {
                value[width - unused..].fill(0);
            }
            builder.add_buffer(values.into()).nulls(nulls(rows, numbers))
        }
    };
    make_array(data.align_buffers(true).build().unwrap())
}

/// Lists of any length.
fn lists(data_type: &DataType, rows: usize, numbers: &mut Numbers) -> ArrayDataBuilder {
    let builder = ArrayData::builder(data_type.clone()).len(rows);
    match data_type {
        DataType::List(field) | DataType::Map(field, _) => {
            let lengths = lengths(rows, numbers);
            let child = child(field, lengths.iter().sum(), numbers);
            builder
                .add_buffer(offsets::<i32>(&lengths))
                .add_child_data(child)
                .nulls(nulls(rows, numbers))
        }
        DataType::LargeList(field) => {
            let lengths = lengths(rows, numbers);
            let child = child(field, lengths.iter().sum(), numbers);
            builder
                .add_buffer(offsets::<i64>(&lengths))
                .add_child_data(child)
                .nulls(nulls(rows, numbers))
        }
        DataType::ListView(field) => {
            let (at, size): (Vec<i32>, Vec<i32>) = views(rows, numbers);
            builder
                .add_buffer(Buffer::from_vec(at))
                .add_buffer(Buffer::from_vec(size))
                .add_child_data(child(field, 20, numbers))
                .nulls(nulls(rows, numbers))
        }
        DataType::LargeListView(field) => {
            let (at, size): (Vec<i64>, Vec<i64>) = views(rows, numbers);
            builder
                .add_buffer(Buffer::from_vec(at))
                .add_buffer(Buffer::from_vec(size))
                .add_child_data(child(field, 20, numbers))
                .nulls(nulls(rows, numbers))
        }
        other => panic!("{other} is no list"),
    }
}

fn child(field: &Field, rows: usize, numbers: &mut Numbers) -> ArrayData {
    let values = array(field.data_type(), rows, numbers);
    if field.is_nullable() || values.logical_null_count() == 0 {
        return values.to_data();
    }
    values.to_data().into_builder().nulls(None).build().unwrap()
}

fn strings(data_type: &DataType, rows: usize, numbers: &mut Numbers) -> ArrayRef {
    let data = words(data_type, (0..rows).map(|_| text(numbers)).collect());
    let data = data.to_data().into_builder().nulls(nulls(rows, numbers));
    make_array(data.build().unwrap())
}

/// Text or bytes without nulls.
fn words(data_type: &DataType, words: Vec<String>) -> ArrayRef {
    let lengths: Vec<usize> = words.iter().map(String::len).collect();
    let offsets = match data_type {
        DataType::Utf8 | DataType::Binary => offsets::<i32>(&lengths),
        _ => offsets::<i64>(&lengths),
    };
    let data = ArrayData::builder(data_type.clone())
        .len(words.len())
        .add_buffer(offsets)
        .add_buffer(words.concat().into_bytes().into());
    make_array(data.build().unwrap())
}

/// Places and sizes within 20 values, which may overlap.
fn views<T: TryFrom<usize>>(rows: usize, numbers: &mut Numbers) -> (Vec<T>, Vec<T>) {
    let number = |value: usize| T::try_from(value).ok().unwrap();
    (0..rows).map(|_| (number(numbers.below(15)), number(numbers.below(5)))).unzip()
}

fn union(fields: &UnionFields, mode: UnionMode, rows: usize, numbers: &mut Numbers) -> ArrayRef {
    let tags: Vec<i8> = (0..rows).map(|_| [3, 7][numbers.below(2)]).collect();
    let places = tags.iter().scan([0, 0], |used, tag| {
        let place = &mut used[usize::from(*tag == 7)];
        *place += 1;
        Some(*place - 1)
    });
    let places: Vec<i32> = places.collect();
    let children = fields.iter().map(|(_, field)| array(field.data_type(), rows, numbers));
    let children = children.collect();
    let places = (mode == UnionMode::Dense).then(|| places.into());
    let array = arrow_array::UnionArray::try_new(fields.clone(), tags.into(), places, children);
    Arc::new(array.unwrap())
}

fn dictionary(
    data_type: &DataType,
    key: &DataType,
    value: &DataType,
    rows: usize,
    numbers: &mut Numbers,
) -> ArrayRef {
    let values = match value {
        // The first of the same words: those of the next batch are more, so that
        // they are sent as a delta, or fewer.
        DataType::Utf8 | DataType::LargeUtf8 => {
            words(value, (0..numbers.below(6)).map(|at| format!("word {at}")).collect())
        }
        _ => array(value, 3, numbers),
    };
    let width = key.primitive_width().unwrap();
    let mut keys = vec![0; rows * width];
    for key in keys.chunks_mut(width) {
        key[0] = numbers.below(values.len().max(1)).to_le_bytes()[0];
    }
    let nulls = match values.len() {
        0 => Some(NullBuffer::new_null(rows)),
        _ => nulls(rows, numbers),
    };
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(Buffer::from(keys))
        .add_child_data(values.to_data())
        .nulls(nulls)
        .align_buffers(true);
    make_array(data.build().unwrap())
}

/// The same message with metadata of its own in its header, as some writers
/// give it to a record batch.
pub(crate) fn with_metadata(message: &Message, key: &str, value: &str) -> Message {
    let old = arrow_ipc::root_as_message(&message.header).unwrap();
    let batch = old.header_as_record_batch().unwrap();
    let mut fbb = FlatBufferBuilder::new();
    let nodes: Vec<_> = batch.nodes().unwrap().iter().copied().collect();
    let buffers: Vec<_> = batch.buffers().unwrap().iter().copied().collect();
    let counts: Vec<_> = batch.variadicBufferCounts().into_iter().flatten().collect();
    let header = RecordBatchArgs {
        length: batch.length(),
        nodes: Some(fbb.create_vector(&nodes)),
        buffers: Some(fbb.create_vector(&buffers)),
        compression: None,
        variadicBufferCounts: Some(fbb.create_vector(&counts)),
    };
    let header = arrow_ipc::RecordBatch::create(&mut fbb, &header);
    let pair = [Some(fbb.create_string(key)), Some(fbb.create_string(value))];
    let pair = KeyValue::create(&mut fbb, &KeyValueArgs { key: pair[0], value: pair[1] });
    let metadata = fbb.create_vector(&[pair]);
    let new = MessageArgs {
        version: old.version(),
        header_type: old.header_type(),
        header: Some(header.as_union_value()),
        bodyLength: old.bodyLength(),
        custom_metadata: Some(metadata),
    };
    let new = arrow_ipc::Message::create(&mut fbb, &new);
    fbb.finish(new, None);
    Message { header: Bytes::copy_from_slice(fbb.finished_data()), ..message.clone() }
}

/// The metadata of [`with_metadata`], where a message has it.
pub(crate) fn metadata_of(message: &Message, key: &str) -> Option<String> {
    let parsed = arrow_ipc::root_as_message(&message.header).unwrap();
    let mut pairs = parsed.custom_metadata().into_iter().flatten();
    Some(pairs.find(|pair| pair.key() == Some(key))?.value()?.to_owned())
}
