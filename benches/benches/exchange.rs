//! The partition kernel over types, nulls and numbers of partitions, beside the
//! usual way: rows taken by partition, and put together.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sheaf_bench::shuffled::{ROWS, Shape, TakeAndCoalesce, stock};
use sheaf_exchange::{Partitioner, PartitionerOptions, Partitioning, partition_ids};

const SHAPES: [(&str, Shape); 4] = [
    ("ints", Shape::Ints),
    ("mixed", Shape::Mixed),
    ("nulls", Shape::Nulls),
    ("views", Shape::Views),
];

const PARTITIONS: [usize; 5] = [2, 16, 64, 256, 1_024];

/// A batch of 8,192 rows is an iteration: nanoseconds by row are its time
/// divided by that.
fn kernel(criterion: &mut Criterion) {
    for (name, shape) in SHAPES {
        let stock = stock(shape).expect("columns of one length");
        let mut group = criterion.benchmark_group(format!("exchange/{name}"));
        group.throughput(Throughput::Elements(ROWS as u64)).sample_size(20);
        group.warm_up_time(std::time::Duration::from_millis(500));
        group.measurement_time(std::time::Duration::from_secs(1));
        for partitions in PARTITIONS {
            let by_key = Partitioning::hash(["key"]);
            let (schema, options) = (stock[0].schema(), PartitionerOptions::default());
            let made = Partitioner::try_new(schema, by_key.clone(), partitions, options);
            let mut partitioner = made.expect("a key that is there");
            let mut next = stock.iter().cycle();
            group.bench_function(BenchmarkId::new("kernel", partitions), |bencher| {
                bencher.iter(|| {
                    let batch = next.next().expect("a cycle");
                    black_box(partitioner.push(batch).expect("plain types"))
                });
            });
            let mut usual = TakeAndCoalesce::new(&stock[0], partitions);
            group.bench_function(BenchmarkId::new("take_and_coalesce", partitions), |bencher| {
                bencher.iter(|| {
                    let batch = next.next().expect("a cycle");
                    let ids = partition_ids(batch, &by_key, partitions).expect("a key");
                    black_box(usual.push(batch, &ids).expect("plain types"))
                });
            });
        }
    }
}

criterion_group!(benches, kernel);
criterion_main!(benches);
