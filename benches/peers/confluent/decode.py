"""Converts the values of a file to Arrow, without Kafka.

    decode.py WAY FILE BATCH [SCHEMA]

The file has each value after its length, four bytes, the lowest first.
"""

import json
import pathlib
import sys
import time

from ways import WAYS

# Seconds that are measured at least.
LEAST = 1.0


def batches(data, batch):
    values, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        values.append(data[at + 4 : end])
        at = end
    return [values[at : at + batch] for at in range(0, len(values), batch)]


def main():
    way, path, batch = sys.argv[1:4]
    convert = WAYS[way](*sys.argv[4:] or [None])
    all_values = batches(pathlib.Path(path).read_bytes(), int(batch))
    convert(all_values[0])
    count = 0
    start, before = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < LEAST:
        for values in all_values:
            count += convert(values).num_rows
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    print(json.dumps({"messages": count, "seconds": seconds, "cpu_seconds": cpu}))


main()
