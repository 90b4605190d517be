//! Sizes, memory and bad input.

use std::sync::Arc;

use arrow_array::types::{Int8Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, NullArray, RecordBatch,
    RecordBatchOptions, StringArray, StringViewArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use sheaf_exchange::{
    Column, Error, Partitioner, PartitionerOptions, Partitioning, RangeBounds, RangeSampler,
    Sealed, SortKey, hash_partition_data, partition_ids,
};
use sheaf_retry::{Code, Retryable as _};

use super::columns::Random;
use super::every_type::decode;

fn table(columns: impl IntoIterator<Item = (&'static str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter(columns).unwrap()
}

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    table([("n", Arc::new(Int64Array::from_iter_values(values)) as ArrayRef)])
}

fn small(chunk_bytes: usize, memory_bytes: usize) -> PartitionerOptions {
    PartitionerOptions { chunk_bytes, memory_bytes, ..PartitionerOptions::default() }
}

fn body_bytes(sealed: &Sealed) -> usize {
    sealed.messages.iter().map(sheaf_flight::Message::body_len).sum()
}

#[test]
fn chunks_are_full_and_no_larger_than_they_may_be() {
    let batch = numbers(0..100_000);
    let options = small(8_000, 1 << 20);
    let mut partitioner =
        Partitioner::try_new(batch.schema(), Partitioning::hash(["n"]), 4, options).unwrap();
    let full = partitioner.push(&batch).unwrap();
    assert!(full.len() > 80, "{}", full.len());
    for part in &full {
        // Padding to 64 bytes comes on top.
        assert!((5_000..=8_128).contains(&body_bytes(part)), "{}", body_bytes(part));
    }
    let rows: u64 = full.iter().chain(&partitioner.finish().unwrap()).map(|part| part.rows).sum();
    assert_eq!(rows, 100_000);
}

#[test]
fn rows_of_a_chunk_are_limited_too_and_columns_may_have_no_bytes_or_not_exist() {
    let options = PartitionerOptions { chunk_rows: 100, ..PartitionerOptions::default() };
    let nulls = table([("n", Arc::new(NullArray::new(1_000)) as ArrayRef)]);
    let count = RecordBatchOptions::new().with_row_count(Some(1_000));
    let empty = Arc::new(Schema::empty());
    let nothing = RecordBatch::try_new_with_options(empty, Vec::new(), &count).unwrap();
    for batch in [nulls, nothing] {
        let mut partitioner =
            Partitioner::try_new(batch.schema(), Partitioning::RoundRobin, 3, options).unwrap();
        let mut sealed = partitioner.push(&batch).unwrap();
        sealed.extend(partitioner.flush().unwrap());
        assert!(sealed.iter().all(|part| part.rows <= 100));
        let found = decode(&partitioner.schema_message(), &sealed);
        let rows = |partition| found[&partition].iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!([rows(0), rows(1), rows(2)], [334, 333, 333]);
    }
}

#[test]
fn a_row_that_is_larger_than_a_chunk_is_one_by_itself() {
    let text = |size: usize| "x".repeat(size);
    let texts = [text(10), text(50_000), text(10), text(70_000), text(20)];
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(
        [1, 20_000, 1, 20_000, 1].map(|size| Some(vec![Some(1); size])),
    );
    let columns: [ArrayRef; 3] = [
        Arc::new(StringArray::from_iter_values(&texts)),
        Arc::new(StringViewArray::from_iter_values(&texts)),
        Arc::new(list),
    ];
    for column in columns {
        let batch = table([("c", column)]);
        let options = small(1_000, 1_000);
        let rule = Partitioning::Single;
        let mut partitioner = Partitioner::try_new(batch.schema(), rule, 1, options).unwrap();
        let mut sealed = partitioner.push(&batch).unwrap();
        sealed.extend(partitioner.flush().unwrap());
        assert_eq!(sealed.iter().map(|part| part.rows).collect::<Vec<_>>(), [1; 5]);
        let found = &decode(&partitioner.schema_message(), &sealed)[&0];
        let again = arrow_select::concat::concat_batches(&batch.schema(), found).unwrap();
        assert_eq!(again, batch);
    }
}

#[test]
fn what_is_open_stays_within_its_memory_and_the_fullest_goes_first() {
    let mut random = Random(9);
    let (limit, chunk) = (1 << 20, 1 << 18);
    let schema = numbers([]).schema();
    // Most rows go to one partition of 500.
    let skewed = Partitioning::Custom(Arc::new(|batch, partitions| {
        let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        let place = |value: &i64| if value % 3 > 0 { 7 } else { (value / 3) as u32 % partitions };
        Ok(column.values().iter().map(place).collect())
    }));
    let mut partitioner = Partitioner::try_new(schema, skewed, 500, small(chunk, limit)).unwrap();
    let (mut rows, mut by_memory) = (0, 0);
    for _ in 0..300 {
        let batch = numbers((0..5_000).map(|_| (random.next() >> 2) as i64));
        for part in partitioner.push(&batch).unwrap() {
            rows += part.rows;
            by_memory += usize::from(body_bytes(&part) < chunk / 2);
        }
        assert!(partitioner.open_bytes() <= limit, "{}", partitioner.open_bytes());
    }
    assert!(by_memory > 0, "the limit of all was never met");
    rows += partitioner.finish().unwrap().iter().map(|part| part.rows).sum::<u64>();
    assert_eq!(rows, 300 * 5_000);
}

#[test]
fn memory_of_batches_is_let_go_once_their_rows_were_taken() {
    // Views of long values would hold what they came from.
    let long = "a value that is longer than a view";
    let views = || StringViewArray::from_iter_values((0..1_000).map(|row| format!("{long} {row}")));
    let field = Arc::new(Field::new("item", DataType::Utf8View, true));
    let offsets = arrow_buffer::OffsetBuffer::from_lengths([1; 1_000]);
    let list = ListArray::new(field, offsets, Arc::new(views()), None);
    for column in [Arc::new(views()) as ArrayRef, Arc::new(list)] {
        let batch = table([("c", column)]);
        let held: Vec<_> = buffers(&batch.column(0).to_data());
        let rule = Partitioning::hash(["c"]);
        let options = PartitionerOptions::default();
        let mut partitioner = Partitioner::try_new(batch.schema(), rule, 8, options).unwrap();
        assert!(partitioner.push(&batch).unwrap().is_empty());
        drop(batch);
        for buffer in held {
            assert_eq!(buffer.strong_count(), 1, "a buffer of the batch is still held");
        }
        assert!(partitioner.open_bytes() > 0);
    }
}

fn buffers(data: &arrow_data::ArrayData) -> Vec<arrow_buffer::Buffer> {
    let own = data.buffers().iter().filter(|buffer| buffer.len() > 64).cloned();
    own.chain(data.child_data().iter().flat_map(buffers)).collect()
}

#[test]
fn a_dictionary_for_each_batch_never_overflows_the_keys_of_a_chunk() {
    let batch = |from: i32| {
        let values = StringArray::from_iter_values((from..from + 100).map(|n| n.to_string()));
        let keys = (0..100_i8).map(Some).collect();
        let column = DictionaryArray::<Int8Type>::new(keys, Arc::new(values));
        table([
            ("d", Arc::new(column) as ArrayRef),
            ("n", Arc::new(Int32Array::from_iter_values(from..from + 100))),
        ])
    };
    let schema = batch(0).schema();
    let options = PartitionerOptions::default();
    let mut partitioner =
        Partitioner::try_new(schema, Partitioning::RoundRobin, 2, options).unwrap();
    let mut sealed = Vec::new();
    for number in 0..10 {
        sealed.extend(partitioner.push(&batch(number * 100)).unwrap());
    }
    sealed.extend(partitioner.flush().unwrap());
    let found = decode(&partitioner.schema_message(), &sealed);
    for (partition, batches) in found {
        let mut expected = partition as i32;
        for batch in batches {
            let texts = arrow_cast::cast(batch.column(0), &DataType::Int32).unwrap();
            assert_eq!(&texts, batch.column(1));
            for number in texts.as_any().downcast_ref::<Int32Array>().unwrap().values() {
                assert_eq!(*number, expected);
                expected += 2;
            }
        }
        assert_eq!(expected, 1_000 + partition as i32);
    }
}

#[test]
fn a_schema_of_thousands_of_columns_is_split_by_rows() {
    let fields: Vec<Field> =
        (0..3_000).map(|index| Field::new(format!("c{index}"), DataType::Int64, true)).collect();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..200));
    let columns = vec![column; 3_000];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    let options = small(1 << 20, 4 << 20);
    let rule = Partitioning::hash(["c7"]);
    let mut partitioner = Partitioner::try_new(batch.schema(), rule, 3, options).unwrap();
    let mut sealed = partitioner.push(&batch).unwrap();
    sealed.extend(partitioner.flush().unwrap());
    assert!(sealed.len() >= 4, "{}", sealed.len());
    let rows: usize = decode(&partitioner.schema_message(), &sealed)
        .values()
        .flatten()
        .map(RecordBatch::num_rows)
        .sum();
    assert_eq!(rows, 200);
}

#[test]
fn range_bounds_are_met_in_both_directions_with_nulls_at_either_end() {
    let column = Int64Array::from(vec![None, Some(1), Some(5), Some(9), Some(10), None]);
    let batch = table([("n", Arc::new(column) as ArrayRef)]);
    let bounds = |values: Vec<i64>| table([("b", Arc::new(Int64Array::from(values)) as ArrayRef)]);
    let ids = |key: SortKey, values| {
        let bounds = RangeBounds::try_new(vec![key], bounds(values)).unwrap();
        partition_ids(&batch, &Partitioning::Range(bounds), 3).unwrap()
    };
    assert_eq!(ids(SortKey::ascending("n"), vec![5, 10]), [0, 0, 1, 1, 2, 0]);
    assert_eq!(ids(SortKey::descending("n"), vec![9, 1]), [2, 2, 1, 1, 0, 2]);
    let last = SortKey { nulls_first: false, ..SortKey::ascending("n") };
    assert_eq!(ids(last, vec![5, 10]), [2, 0, 1, 1, 2, 2]);
    assert_eq!(ids(SortKey::ascending("n"), vec![5]), [0, 0, 1, 1, 1, 0], "fewer bounds");
    assert_eq!(ids(SortKey::ascending("n"), vec![]), [0; 6], "no bound");
}

#[test]
fn sampled_bounds_cut_a_skewed_column_into_about_equal_parts() {
    let mut random = Random(4);
    let values: Vec<i64> = (0..50_000).map(|_| ((random.next() % 1_000) as i64).pow(3)).collect();
    let batch = numbers(values);
    let keys = vec![SortKey::ascending("n")];
    let mut sampler = RangeSampler::try_new(batch.schema(), keys, 4_000, 1).unwrap();
    for from in (0..50_000).step_by(5_000) {
        sampler.push(&batch.slice(from, 5_000)).unwrap();
    }
    assert_eq!(sampler.seen(), 50_000);
    let rule = Partitioning::Range(sampler.bounds(10).unwrap());
    let mut counts = [0; 10];
    for id in partition_ids(&batch, &rule, 10).unwrap() {
        counts[id as usize] += 1;
    }
    assert!(counts.iter().all(|count| (4_000..6_000).contains(count)), "{counts:?}");
}

#[test]
fn a_batch_is_cut_by_the_hash_of_its_keys() {
    let batch = numbers(0..1_000);
    let parts = hash_partition_data(&batch, &[Column::from("n")], 7).unwrap();
    assert_eq!(parts.len(), 7);
    let ids = partition_ids(&batch, &Partitioning::hash(["n"]), 7).unwrap();
    for (partition, part) in (0..).zip(&parts) {
        let wanted = (0..1_000).zip(&ids).filter(|(_, id)| **id == partition).map(|(row, _)| row);
        assert_eq!(part, &numbers(wanted));
    }
    assert!(
        hash_partition_data(&numbers([]), &[0.into()], 2)
            .unwrap()
            .iter()
            .all(|part| part.num_rows() == 0)
    );
}

fn refused(rule: Partitioning, partitions: usize, options: PartitionerOptions) -> (Code, String) {
    let schema: SchemaRef = numbers([]).schema();
    let error = Partitioner::try_new(schema, rule, partitions, options).unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn bad_input_is_refused_with_what_is_wrong() {
    let plain = PartitionerOptions::default();
    let by = |column: &str| Partitioning::hash([column]);
    let (code, text) = refused(by("m"), 2, plain);
    assert_eq!(
        (code, text.as_str()),
        (Code::InvalidArgument, "no column \"m\" in the schema; its columns are \"n\"")
    );
    let none: [usize; 0] = [];
    for (rule, partitions, options, wanted) in [
        (Partitioning::hash([1]), 2, plain, "no column 1 in"),
        (Partitioning::hash(none), 2, plain, "hash partitioning has no key"),
        (by("n"), 0, plain, "0 partitions with hash partitioning; allowed are 1 to 65536"),
        (by("n"), 65_537, plain, "65537 partitions"),
        (Partitioning::Single, 2, plain, "2 partitions with single partitioning; allowed are 1"),
        (by("n"), 2, small(0, 1), "chunk_bytes is 0"),
        (by("n"), 2, small(10, 9), "memory_bytes is 9"),
        (by("n"), 2, PartitionerOptions { chunk_rows: 0, ..plain }, "chunk_rows is 0"),
    ] {
        let (_, text) = refused(rule, partitions, options);
        assert!(text.contains(wanted), "{text}");
    }
    assert_eq!(refused(by("n"), 65_537, plain).0, Code::LimitExceeded);
    let twice = Schema::new(vec![Field::new("n", DataType::Int8, true); 2]);
    let error = Partitioner::try_new(Arc::new(twice), by("n"), 2, plain).unwrap_err();
    assert_eq!(error.to_string(), "2 columns are called \"n\"; name the key by its index");
    let broadcast = partition_ids(&numbers([1]), &Partitioning::Broadcast, 2).unwrap_err();
    assert!(matches!(broadcast, Error::PartitionCount { .. }));
}

#[test]
fn bounds_that_do_not_fit_are_refused() {
    let key = || vec![SortKey::ascending("n")];
    let bounds = |values: &[i64]| numbers(values.iter().copied());
    let wrong = |keys, batch| RangeBounds::try_new(keys, batch).unwrap_err().to_string();
    assert_eq!(wrong(key(), bounds(&[2, 1])), "range bounds: bound 1 is before bound 0; sort them");
    assert!(wrong(Vec::new(), bounds(&[])).contains("no key columns"));
    assert!(wrong([key(), key()].concat(), bounds(&[])).contains("1 columns for 2 keys"));
    let plain = PartitionerOptions::default();
    let rule = |batch| Partitioning::Range(RangeBounds::try_new(key(), batch).unwrap());
    let (_, text) = refused(rule(bounds(&[1, 2])), 2, plain);
    assert!(text.contains("2 bounds for 2 partitions"), "{text}");
    let words = table([("b", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]);
    let (_, text) = refused(rule(words), 2, plain);
    assert!(text.contains("Utf8 does not fit key \"n\" of Int64"), "{text}");
    let lists = DataType::Dictionary(
        Box::new(DataType::Int8),
        Box::new(DataType::new_list(DataType::Int8, true)),
    );
    let schema = Arc::new(Schema::new(vec![Field::new("n", lists, true)]));
    let error = RangeSampler::try_new(schema, key(), 10, 0).unwrap_err();
    assert!(matches!(error, Error::NoOrder { .. }), "{error}");
}

#[test]
fn a_batch_that_is_refused_is_not_taken_and_others_may_follow() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let wrong = Partitioning::Custom(Arc::new(|batch, partitions| {
        Ok(match batch.num_rows() {
            1 => vec![partitions],
            2 => vec![0],
            rows => vec![0; rows],
        })
    }));
    let options = PartitionerOptions::default();
    let mut partitioner = Partitioner::try_new(schema, wrong, 4, options).unwrap();
    let mut error = |batch: RecordBatch| partitioner.push(&batch).unwrap_err().to_string();
    assert_eq!(error(numbers([1])), "the partition function: row 0 in partition 4 of 4");
    assert_eq!(error(numbers([1, 2])), "the partition function: 1 partitions for 2 rows");
    let other = table([("n", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]);
    assert!(error(other).contains("column 0 is \"n\" of Utf8, not \"n\" of Int64"));
    let nulls = table([("n", Arc::new(Int64Array::from(vec![None::<i64>])) as ArrayRef)]);
    assert!(error(nulls).contains("has nulls"));
    assert!(error(RecordBatch::new_empty(Arc::new(Schema::empty()))).contains("0 columns, not 1"));
    let mut sealed = partitioner.push(&numbers([1, 2, 3])).unwrap();
    sealed.extend(partitioner.finish().unwrap());
    assert_eq!(sealed.iter().map(|part| part.rows).sum::<u64>(), 3);
}
