"""Leaves out prices that cannot be: an Arrow IPC stream in, another one out."""

import sys

import pyarrow as pa
import pyarrow.compute as pc

with pa.ipc.open_stream(sys.stdin.buffer) as batches:
    with pa.ipc.new_stream(sys.stdout.buffer, batches.schema) as out:
        sys.stdout.buffer.flush()
        for batch in batches:
            # To each batch one answer, of no rows where nothing is left.
            out.write_batch(batch.filter(pc.greater(batch.column("price"), 0)))
            sys.stdout.buffer.flush()
