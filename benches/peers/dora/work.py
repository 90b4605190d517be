"""What each stage does, whatever brings the batches: the same as the stages of ours."""

import json
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc

SCHEMA = pa.schema([pa.field("at", pa.int64(), False), pa.field("value", pa.int64(), False)])
CYCLE = 10
KEEP_BELOW = 5


def batches(count, rows, pace_us):
    """So many batches; with a pace, each of them is one row with the time."""
    if pace_us:
        for _ in range(count):
            time.sleep(pace_us / 1e6)
            yield pa.record_batch([pa.array([time.time_ns()]), pa.array([0])], schema=SCHEMA)
        return
    columns = [pa.array(range(rows)), pa.array([row % CYCLE for row in range(rows)])]
    batch = pa.record_batch(columns, schema=SCHEMA)
    for _ in range(count):
        yield batch


def keep(batch):
    """Half of the rows."""
    return batch.filter(pc.less(batch.column("value"), KEEP_BELOW))


class Tally:
    """Counts what comes, and how long it took."""

    def __init__(self, is_paced):
        self.is_paced = is_paced
        self.rows, self.total, self.first, self.last = 0, 0, 0, 0
        self.waits = []

    def take(self, batch):
        self.last = time.time_ns()
        self.first = self.first or self.last
        self.rows += batch.num_rows
        self.total += pc.sum(batch.column("value")).as_py() or 0
        if self.is_paced:
            self.waits.append(self.last - batch.column("at")[0].as_py())

    def write(self, path):
        result = {"rows": self.rows, "total": self.total, "waits": self.waits}
        result |= {"first_ns": self.first, "last_ns": self.last}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(result, file)


def arguments():
    """`ROLE COUNT ROWS PACE_US RESULT`."""
    role, count, rows, pace_us, result = sys.argv[1:]
    return role, int(count), int(rows), int(pace_us), result
