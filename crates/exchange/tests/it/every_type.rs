//! Every row exactly once and in order, of every type, with every partitioning.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array, UInt64Array};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{Field, Schema, SchemaRef};
use arrow_select::take::take;
use proptest::prelude::*;
use sheaf_exchange::{
    ChunkCompression, Partitioner, PartitionerOptions, Partitioning, RangeSampler, Sealed, SortKey,
    partition_ids,
};
use sheaf_flight::ipc::{Bounds, Decoded, Decoder};

use super::columns::{Random, all};

/// Batches of one schema: the first column numbers the rows.
pub(crate) fn batches(seed: u64, sizes: &[usize]) -> (SchemaRef, Vec<RecordBatch>) {
    let mut random = Random(seed);
    let (mut made, mut schema, mut next) = (Vec::new(), None, 0);
    for size in sizes {
        // A slice of a longer one, so that offsets are not zero.
        let (before, after) = (random.below(20), random.below(20));
        let number = UInt64Array::from_iter_values(next..next + *size as u64);
        next += *size as u64;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(number)];
        let long = all(size + before + after, &mut random);
        columns.extend(long.iter().map(|column| column.slice(before, *size)));
        let schema = schema.get_or_insert_with(|| {
            let fields = columns.iter().enumerate().map(|(index, column)| {
                let metadata: HashMap<_, _> = [("index".to_owned(), index.to_string())].into();
                let name = format!("c{index}");
                Field::new(name, column.data_type().clone(), true).with_metadata(metadata)
            });
            let metadata: HashMap<_, _> = [("who".to_owned(), "test".to_owned())].into();
            Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata))
        });
        made.push(RecordBatch::try_new(Arc::clone(schema), columns).unwrap());
    }
    (schema.unwrap(), made)
}

/// The batches of each partition as its stream has them.
pub(crate) fn decode(
    first: &sheaf_flight::Message,
    sealed: &[Sealed],
) -> BTreeMap<u32, Vec<RecordBatch>> {
    let mut decoders: BTreeMap<u32, Decoder> = BTreeMap::new();
    let mut found: BTreeMap<u32, Vec<RecordBatch>> = BTreeMap::new();
    for part in sealed {
        let decoder = decoders.entry(part.partition).or_insert_with(|| {
            let mut decoder = Decoder::new(Bounds::default());
            decoder.push(first).unwrap();
            decoder
        });
        let mut rows = 0;
        for message in &part.messages {
            if let Decoded::Batch(batch) = decoder.push(message).unwrap() {
                rows += batch.num_rows() as u64;
                found.entry(part.partition).or_default().push(batch);
            }
        }
        assert_eq!(rows, part.rows);
    }
    found
}

/// Values as text, for types whose arrays cannot be compared.
pub(crate) fn texts(array: &dyn Array) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL").with_display_error(false);
    let formatter = ArrayFormatter::try_new(array, &options).unwrap();
    (0..array.len()).map(|row| formatter.value(row).try_to_string().unwrap()).collect()
}

/// What `take` gives of each batch for a partition.
fn expected(
    batches: &[RecordBatch],
    ids: &[Vec<u32>],
    partition: u32,
    column: usize,
) -> Vec<String> {
    let mut expected = Vec::new();
    for (batch, ids) in batches.iter().zip(ids) {
        let rows: Vec<u32> =
            (0..).zip(ids).filter(|(_, id)| **id == partition).map(|(row, _)| row).collect();
        let taken = take(batch.column(column), &UInt32Array::from(rows), None).unwrap();
        expected.extend(texts(taken.as_ref()));
    }
    expected
}

fn check(
    batches: &[RecordBatch],
    ids: &[Vec<u32>],
    partitions: u32,
    found: &BTreeMap<u32, Vec<RecordBatch>>,
) {
    let schema = batches[0].schema();
    let rows: usize = found.values().flatten().map(RecordBatch::num_rows).sum();
    assert_eq!(rows, batches.iter().map(RecordBatch::num_rows).sum::<usize>());
    for partition in 0..partitions {
        let parts = found.get(&partition).map_or(&[][..], Vec::as_slice);
        assert!(parts.iter().all(|batch| batch.schema() == schema));
        for column in 0..schema.fields().len() {
            let got: Vec<String> =
                parts.iter().flat_map(|batch| texts(batch.column(column).as_ref())).collect();
            let wanted = expected(batches, ids, partition, column);
            assert_eq!(got, wanted, "partition {partition}, column {}", schema.field(column));
        }
    }
}

fn run(partitioner: &mut Partitioner, batches: &[RecordBatch]) -> Vec<Sealed> {
    let mut sealed = Vec::new();
    for batch in batches {
        sealed.extend(partitioner.push(batch).unwrap());
    }
    sealed.extend(partitioner.flush().unwrap());
    assert_eq!(partitioner.open_bytes(), 0, "all memory was given back");
    sealed
}

fn sampled(batches: &[RecordBatch], partitions: usize, column: usize) -> Partitioning {
    let keys = vec![SortKey::descending(column), SortKey::ascending(0)];
    let mut sampler = RangeSampler::try_new(batches[0].schema(), keys, 64, 1).unwrap();
    batches.iter().for_each(|batch| sampler.push(batch).unwrap());
    Partitioning::Range(sampler.bounds(partitions).unwrap())
}

/// Partitions of all rows, in the way that each rule has.
fn ids(batches: &[RecordBatch], rule: &Partitioning, partitions: usize) -> Vec<Vec<u32>> {
    let mut next = 0;
    let of = |batch: &RecordBatch| match rule {
        Partitioning::RoundRobin => {
            let from = next;
            next += batch.num_rows();
            (from..next).map(|row| (row % partitions) as u32).collect()
        }
        rule => partition_ids(batch, rule, partitions).unwrap(),
    };
    batches.iter().map(of).collect()
}

fn rules(batches: &[RecordBatch], partitions: usize, random: &mut Random) -> Vec<Partitioning> {
    let columns = batches[0].num_columns();
    let keys = (0..1 + random.below(3)).map(|_| random.below(columns)).collect::<Vec<_>>();
    let mut rules = vec![
        Partitioning::RoundRobin,
        Partitioning::hash(keys),
        // Integers: any column that may be a key is tried below.
        sampled(batches, partitions, 6),
        Partitioning::Custom(Arc::new(|batch, partitions| {
            Ok((0..batch.num_rows() as u32).map(|row| row / 3 % partitions).collect())
        })),
    ];
    if partitions == 1 {
        rules.push(Partitioning::Single);
    }
    rules
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn every_row_is_once_in_its_partition_and_in_order(
        seed: u64,
        sizes in proptest::collection::vec(0_usize..90, 1..4),
        chunk_bytes in prop_oneof![Just(1_usize), 100_usize..100_000, Just(4 << 20)],
        compression in prop_oneof![
            Just(ChunkCompression::None),
            Just(ChunkCompression::Lz4),
            Just(ChunkCompression::Zstd),
            Just(ChunkCompression::Auto),
        ],
    ) {
        let (schema, batches) = batches(seed, &sizes);
        for partitions in [1, 2, 16, 17, 64, 256] {
            for rule in rules(&batches, partitions, &mut Random(seed)) {
                let options = PartitionerOptions { chunk_bytes, compression, ..Default::default() };
                let made = Partitioner::try_new(Arc::clone(&schema), rule.clone(), partitions, options);
                let mut partitioner = made.unwrap();
                let sealed = run(&mut partitioner, &batches);
                let found = decode(&partitioner.schema_message(), &sealed);
                check(&batches, &ids(&batches, &rule, partitions), partitions as u32, &found);
            }
        }
    }
}

#[test]
fn broadcast_gives_every_row_to_every_partition() {
    let (schema, batches) = batches(3, &[50, 0, 70]);
    let options = PartitionerOptions::default();
    let mut partitioner =
        Partitioner::try_new(schema, Partitioning::Broadcast, 5, options).unwrap();
    let sealed = run(&mut partitioner, &batches);
    let found = decode(&partitioner.schema_message(), &sealed);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for parts in found.into_values() {
        let zeros: Vec<_> = batches.iter().map(|batch| vec![0; batch.num_rows()]).collect();
        check(&batches, &zeros, 1, &[(0, parts)].into());
    }
}

#[test]
fn a_column_of_every_type_is_a_hash_key_wherever_it_is_sliced() {
    let (_, batches) = batches(5, &[90]);
    let batch = &batches[0];
    for column in 0..batch.num_columns() {
        let rule = Partitioning::hash([column]);
        let whole = partition_ids(batch, &rule, 1_000).unwrap();
        let parts: Vec<u32> = [(0, 13), (13, 40), (53, 37)]
            .into_iter()
            .flat_map(|(from, rows)| partition_ids(&batch.slice(from, rows), &rule, 1_000).unwrap())
            .collect();
        assert_eq!(whole, parts, "{}", batch.schema().field(column));
        // Equal values agree. Of nested ones the text does not tell all: a list of
        // an empty text looks like an empty list.
        if batch.column(column).data_type().is_nested() {
            continue;
        }
        let mut seen = BTreeMap::new();
        for (text, id) in texts(batch.column(column).as_ref()).into_iter().zip(&whole) {
            let first = seen.entry(text).or_insert(*id);
            assert_eq!(first, id, "{}", batch.schema().field(column));
        }
    }
}
