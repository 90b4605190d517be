"""Partitions batches by the hash of a column, as well as pyarrow can.

    partition.py SHAPE PARTITIONS BATCHES

pyarrow has no hash of a column; its kernels compute the one that its own
reader of fixed steps would have: a product, and the high bits of it. Rows are
sorted by partition (for small numbers that is a counting sort), taken once,
cut without a copy, and cuts put together to batches of 8,192 rows. Taking the
rows of each partition by itself takes several times as long.
"""

import json
import random
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc

ROWS = 8_192
STOCK = 16


def numbers(source):
    return pa.Array.from_buffers(pa.uint64(), ROWS, [None, pa.py_buffer(source.randbytes(8 * ROWS))])


def batch(shape, source):
    key, a, b, c = (numbers(source) for _ in range(4))
    if shape == "mixed":
        a = pa.array([None if n % 10 == 0 else n >> 40 for n in a.to_pylist()], pa.int32())
        b = pa.array([float(n) for n in b.to_pylist()])
        c = pa.array([str(n >> 30).zfill(4 + n % 24) for n in c.to_pylist()])
    elif shape != "ints":
        sys.exit(f"no shape {shape!r}")
    return pa.record_batch([key, a, b, c], ["key", "a", "b", "c"])


def ids_of(key, partitions):
    mixed = pc.multiply(key, pa.scalar(0x9E3779B97F4A7C15, pa.uint64()))
    high = pc.shift_right(mixed, pa.scalar(32, pa.uint64()))
    place = pc.multiply(high, pa.scalar(partitions, pa.uint64()))
    return pc.shift_right(place, pa.scalar(32, pa.uint64())).cast(pa.uint16())


def run(stock, partitions, batches):
    open_cuts = [[] for _ in range(partitions)]
    open_rows = [0] * partitions
    rows = 0
    for index in range(batches):
        given = stock[index % len(stock)]
        ids = ids_of(given.column(0), partitions)
        taken = given.take(pc.sort_indices(ids))
        counts = pc.value_counts(ids)
        counts = dict(zip(counts.field(0).to_pylist(), counts.field(1).to_pylist()))
        start = 0
        for partition in range(partitions):
            count = counts.get(partition, 0)
            if count == 0:
                continue
            open_cuts[partition].append(taken.slice(start, count))
            open_rows[partition] += count
            start += count
            if open_rows[partition] >= ROWS:
                rows += pa.concat_batches(open_cuts[partition]).num_rows
                open_cuts[partition], open_rows[partition] = [], 0
    return rows + sum(pa.concat_batches(cuts).num_rows for cuts in open_cuts if cuts)


def main():
    shape, partitions, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pa.set_cpu_count(1)
    source = random.Random(1)
    stock = [batch(shape, source) for _ in range(STOCK)]
    run(stock, partitions, -(-batches // 4))
    start, cpu = time.perf_counter(), time.process_time()
    rows = run(stock, partitions, batches)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert rows == batches * ROWS, rows
    print(json.dumps({"rows": rows, "seconds": seconds, "cpu_seconds": cpu}))


main()
