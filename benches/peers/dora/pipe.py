"""A stage between pipes: Arrow IPC streams on standard input and output."""

import sys

import pyarrow as pa

import work


def main():
    role, count, rows, pace_us, result = work.arguments()
    if role == "source":
        with pa.ipc.new_stream(sys.stdout.buffer, work.SCHEMA) as out:
            for batch in work.batches(count, rows, pace_us):
                out.write_batch(batch)
                if pace_us:
                    sys.stdout.buffer.flush()
        return
    reader = pa.ipc.open_stream(sys.stdin.buffer)
    if role == "filter":
        with pa.ipc.new_stream(sys.stdout.buffer, work.SCHEMA) as out:
            for batch in reader:
                out.write_batch(work.keep(batch))
                if pace_us:
                    sys.stdout.buffer.flush()
        return
    tally = work.Tally(pace_us > 0)
    for batch in reader:
        tally.take(batch)
    tally.write(result)


main()
