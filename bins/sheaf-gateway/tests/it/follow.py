"""Reads a topic to its end with pyarrow, and says what it saw.

Arguments: server, topic, number of rows. Prints per partition the number of
rows, whether offsets have no gap, and a hash of the sequence numbers.
"""

import json
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight

server, topic, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
client = flight.connect(server)

topics = [info.descriptor.path[0].decode() for info in client.list_flights()]
assert topic in topics, topics

descriptor = flight.FlightDescriptor.for_path(topic)
info = client.get_flight_info(descriptor)
assert len(info.endpoints) == 1, info.endpoints
ticket = info.endpoints[0].ticket.ticket.decode()

reader = client.do_get(flight.Ticket(f"{ticket}?follow=true&limit={rows}"))
seen = {}
total = 0
for chunk in reader:
    batch = chunk.data
    total += batch.num_rows
    partitions = pc.unique(batch["_partition"])
    assert len(partitions) == 1, "a batch is of one partition"
    entry = seen.setdefault(partitions[0].as_py(), {"rows": 0, "next": 0, "sum": 0})
    offsets = batch["_offset"]
    expected = pa.array(range(entry["next"], entry["next"] + batch.num_rows), pa.int64())
    assert offsets.equals(expected), (offsets[0], entry["next"])
    # The sequence number is that of the producer: partition + 4 * offset.
    assert pc.all(pc.equal(batch["n"], pc.add(pc.multiply(offsets, 4), batch["_partition"]))).as_py()
    assert pc.all(pc.equal(batch["hash"], pc.multiply(batch["n"], 2_654_435_761))).as_py()
    entry["next"] += batch.num_rows
    entry["rows"] += batch.num_rows
    entry["sum"] += pc.sum(batch["n"]).as_py()

print(json.dumps({"rows": total, "types": {f.name: str(f.type) for f in reader.schema},
                  "partitions": seen}))
