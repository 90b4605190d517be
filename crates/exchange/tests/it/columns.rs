//! Columns of every Arrow type, made of a seed.

use std::sync::Arc;

use arrow_array::builder::{BinaryViewBuilder, StringViewBuilder};
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt16Type};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeListArray,
    LargeBinaryArray, LargeListArray, LargeListViewArray, LargeStringArray, ListArray,
    ListViewArray, MapArray, NullArray, PrimitiveArray, RunArray, StringArray, StructArray,
    UnionArray, make_array,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_data::ArrayData;
use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit, UnionFields};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn nulls(&mut self, rows: usize) -> Option<NullBuffer> {
        match self.below(3) {
            0 => None,
            1 => Some((0..rows).map(|_| self.below(4) > 0).collect::<Vec<_>>().into()),
            _ => Some((0..rows).map(|_| self.below(40) > 0).collect::<Vec<_>>().into()),
        }
    }

    /// Short and long, within views and outside of them.
    fn text(&mut self) -> Option<String> {
        let length = match self.below(4) {
            0 => return None,
            1 => self.below(4),
            2 => self.below(14),
            _ => self.below(40),
        };
        Some((0..length).map(|_| ['a', 'b', '\u{e4}', '\u{6f22}'][self.below(4)]).collect())
    }

    fn texts(&mut self, rows: usize) -> Vec<Option<String>> {
        (0..rows).map(|_| self.text()).collect()
    }

    fn lengths(&mut self, rows: usize, values: usize) -> Vec<usize> {
        let mut left = values;
        let mut lengths = Vec::new();
        for _ in 0..rows {
            let length = self.below(4).min(left);
            left -= length;
            lengths.push(length);
        }
        lengths
    }
}

/// Types whose values have a width.
fn fixed_types() -> Vec<DataType> {
    use DataType::*;
    let mut types = vec![
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
        Decimal32(5, 2),
        Decimal64(10, -2),
        Decimal128(38, 3),
        Decimal256(76, 10),
        Time32(TimeUnit::Second),
        Time32(TimeUnit::Millisecond),
        Time64(TimeUnit::Microsecond),
        Time64(TimeUnit::Nanosecond),
        Interval(IntervalUnit::YearMonth),
        Interval(IntervalUnit::DayTime),
        Interval(IntervalUnit::MonthDayNano),
        FixedSizeBinary(1),
        FixedSizeBinary(3),
        FixedSizeBinary(16),
        FixedSizeBinary(20),
    ];
    for unit in
        [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond]
    {
        types.push(Timestamp(unit, None));
        types.push(Timestamp(unit, Some("Europe/Berlin".into())));
        types.push(Duration(unit));
    }
    types
}

fn fixed(data_type: &DataType, rows: usize, random: &mut Random) -> ArrayRef {
    let width = match data_type {
        DataType::FixedSizeBinary(width) => *width as usize,
        other => other.primitive_width().unwrap(),
    };
    // Small numbers, so that times and decimals are within their bounds.
    let small = random.below(2) == 0 || !matches!(data_type, DataType::Int64 | DataType::UInt64);
    let mut bytes = Vec::with_capacity(rows * width);
    for _ in 0..rows {
        let value = if small { random.next() % 100 } else { random.next() };
        let sign = small && width > 1 && random.below(5) == 0 && data_type.is_integer();
        let value = if sign { value.wrapping_neg() } else { value };
        let fill = if sign { 0xff } else { 0 };
        bytes.extend(
            (0..width).map(|index| value.to_le_bytes().get(index).copied().unwrap_or(fill)),
        );
    }
    let data = ArrayData::builder(data_type.clone())
        .len(rows)
        .add_buffer(Buffer::from(bytes))
        .nulls(random.nulls(rows))
        .align_buffers(true);
    make_array(data.build().unwrap())
}

fn texts(kind: &str, rows: usize, random: &mut Random) -> ArrayRef {
    let values = random.texts(rows);
    let raw = || values.iter().map(|value| value.as_deref().map(str::as_bytes));
    match kind {
        "utf8" => Arc::new(StringArray::from_iter(&values)),
        "large_utf8" => Arc::new(LargeStringArray::from_iter(&values)),
        "binary" => Arc::new(BinaryArray::from_iter(raw())),
        "large_binary" => Arc::new(LargeBinaryArray::from_iter(raw())),
        "utf8_view" => {
            let mut views = StringViewBuilder::new().with_fixed_block_size(64);
            values.iter().for_each(|value| views.append_option(value.as_deref()));
            Arc::new(views.finish())
        }
        _ => {
            let mut views = BinaryViewBuilder::new().with_fixed_block_size(64);
            raw().for_each(|value| views.append_option(value));
            Arc::new(views.finish())
        }
    }
}

fn item(values: &ArrayRef) -> Arc<Field> {
    Arc::new(Field::new("item", values.data_type().clone(), true))
}

fn list(values: ArrayRef, rows: usize, random: &mut Random) -> ArrayRef {
    let offsets = OffsetBuffer::from_lengths(random.lengths(rows, values.len()));
    Arc::new(ListArray::new(item(&values), offsets, values, random.nulls(rows)))
}

fn list_views(values: ArrayRef, rows: usize, random: &mut Random) -> [ArrayRef; 2] {
    // In any order, over each other and with holes.
    let spans: Vec<(usize, usize)> = (0..rows)
        .map(|_| {
            let from = random.below(values.len() + 1);
            (from, random.below(4).min(values.len() - from))
        })
        .collect();
    let nulls = random.nulls(rows);
    let (small, large) = (
        ListViewArray::new(
            item(&values),
            spans.iter().map(|span| span.0 as i32).collect(),
            spans.iter().map(|span| span.1 as i32).collect(),
            values.clone(),
            nulls.clone(),
        ),
        LargeListViewArray::new(
            item(&values),
            spans.iter().map(|span| span.0 as i64).collect(),
            spans.iter().map(|span| span.1 as i64).collect(),
            values,
            nulls,
        ),
    );
    [Arc::new(small), Arc::new(large)]
}

fn structs(columns: Vec<ArrayRef>, rows: usize, random: &mut Random) -> ArrayRef {
    let fields: Fields = columns
        .iter()
        .enumerate()
        .map(|(index, column)| Field::new(format!("f{index}"), column.data_type().clone(), true))
        .collect();
    Arc::new(StructArray::try_new_with_length(fields, columns, random.nulls(rows), rows).unwrap())
}

fn map(rows: usize, random: &mut Random) -> ArrayRef {
    let lengths = random.lengths(rows, rows * 2);
    let count: usize = lengths.iter().sum();
    let keys: StringArray = (0..count).map(|key| Some(format!("k{key}"))).collect();
    let values = texts("utf8_view", count, random);
    let fields = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Utf8View, true),
    ]);
    let entries = StructArray::new(fields.clone(), vec![Arc::new(keys), values], None);
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Arc::new(MapArray::new(field, offsets, entries, random.nulls(rows), false))
}

fn dictionary<K: arrow_array::types::ArrowDictionaryKeyType>(
    values: ArrayRef,
    rows: usize,
    random: &mut Random,
) -> ArrayRef
where
    K::Native: TryFrom<usize>,
{
    let nulls = random.nulls(rows);
    let keys: ScalarBuffer<K::Native> = (0..rows)
        .map(|_| K::Native::try_from(random.below(values.len())).unwrap_or_default())
        .collect();
    let keys = PrimitiveArray::<K>::new(keys, nulls);
    Arc::new(DictionaryArray::new(keys, values))
}

fn runs<R: arrow_array::types::RunEndIndexType>(
    values: &ArrayRef,
    rows: usize,
    random: &mut Random,
) -> ArrayRef
where
    R::Native: TryFrom<usize>,
{
    let (mut ends, mut end) = (Vec::new(), 0);
    while end < rows {
        end = (end + 1 + random.below(5)).min(rows);
        ends.push(R::Native::try_from(end).unwrap_or_default());
    }
    let ends = PrimitiveArray::<R>::new(ends.into(), None);
    Arc::new(RunArray::try_new(&ends, &values.slice(0, ends.len())).unwrap())
}

fn union(columns: Vec<ArrayRef>, dense: bool, rows: usize, random: &mut Random) -> ArrayRef {
    let fields: UnionFields = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let name = format!("u{index}");
            (index as i8 * 3, Arc::new(Field::new(name, column.data_type().clone(), true)))
        })
        .collect();
    let kinds: Vec<usize> = (0..rows).map(|_| random.below(columns.len())).collect();
    let ids = kinds.iter().map(|kind| *kind as i8 * 3).collect();
    let mut used = vec![0; columns.len()];
    let offsets = kinds.iter().map(|kind| {
        used[*kind] += 1;
        used[*kind] - 1
    });
    let offsets: Option<ScalarBuffer<i32>> = dense.then(|| offsets.collect());
    Arc::new(UnionArray::try_new(fields, ids, offsets, columns).unwrap())
}

/// A column of every type, each with `rows` rows.
pub(crate) fn all(rows: usize, random: &mut Random) -> Vec<ArrayRef> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(NullArray::new(rows)),
        Arc::new(BooleanArray::new(
            (0..rows).map(|_| random.below(2) == 0).collect::<Vec<_>>().into(),
            random.nulls(rows),
        )),
    ];
    columns.extend(fixed_types().iter().map(|data_type| fixed(data_type, rows, random)));
    for kind in ["utf8", "large_utf8", "binary", "large_binary", "utf8_view", "binary_view"] {
        columns.push(texts(kind, rows, random));
    }
    columns.extend(nested(rows, random));
    columns
}

fn nested(rows: usize, random: &mut Random) -> Vec<ArrayRef> {
    let views = texts("utf8_view", rows * 2, random);
    let numbers = fixed(&DataType::Int32, rows * 2, random);
    let words = texts("utf8", 50, random);
    // Of one dictionary for all rows, and of one with nulls in it.
    let small = dictionary::<Int8Type>(words.clone(), rows, random);
    let list_of_views = list(views.clone(), rows, random);
    let offsets = OffsetBuffer::from_lengths(random.lengths(rows, rows * 2));
    let large = LargeListArray::new(item(&numbers), offsets, numbers.clone(), random.nulls(rows));
    let pairs = FixedSizeListArray::new(item(&views), 2, views.clone(), random.nulls(rows));
    let mut columns = vec![
        small.clone(),
        dictionary::<UInt16Type>(views.slice(0, 40.min(views.len()).max(1)), rows, random),
        dictionary::<Int64Type>(fixed(&DataType::Float64, 9, random), rows, random),
        dictionary::<Int32Type>(list(words.clone(), 12, random), rows, random),
        list_of_views.clone(),
        list(list_of_views.clone(), rows, random),
        list(small.clone(), rows, random),
        Arc::new(large),
        Arc::new(pairs),
        map(rows, random),
        runs::<Int16Type>(&views, rows, random),
        runs::<Int32Type>(&numbers, rows, random),
        runs::<Int64Type>(&words_of(rows, random), rows, random),
        structs(Vec::new(), rows, random),
    ];
    columns.extend(list_views(views.clone(), rows, random));
    columns.extend(list_views(list(numbers.clone(), rows, random), rows, random));
    let parts = vec![views.slice(0, rows), small, list_of_views, map(rows, random)];
    columns.push(structs(parts.clone(), rows, random));
    columns.push(union(parts[..3].to_vec(), false, rows, random));
    columns.push(union(parts[..3].to_vec(), true, rows, random));
    columns
}

fn words_of(rows: usize, random: &mut Random) -> ArrayRef {
    texts("utf8", rows, random)
}
