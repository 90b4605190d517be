"""A source of one's own: prices of some symbols, a hundred batches a second.

`config`: `symbols`, a list, and `rows`, after which it ends.
"""

import time

import pyarrow as pa

from sheaf_source import Source

SCHEMA = pa.schema({"at": pa.timestamp("us", "UTC"), "symbol": pa.string(), "price": pa.float64()})
EVERY = 0.01


def ticks(config, first):
    """The batches from the number `first` on; now and then one has a price that cannot be."""
    symbols, rows, number = config.get("symbols", ["AAA"]), config.get("rows"), first
    while rows is None or number * len(symbols) < rows:
        now = pa.scalar(time.time_ns() // 1000, SCHEMA.field("at").type)
        price = -1.0 if number % 10 == 9 else 100.0 + number % 50
        yield pa.record_batch([[now] * len(symbols), symbols, [price] * len(symbols)], schema=SCHEMA)
        number += 1
        time.sleep(EVERY)


Source(SCHEMA, ticks).run()
