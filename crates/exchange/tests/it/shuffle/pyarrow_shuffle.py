"""Sends one partition of a shuffle, or receives it, with nothing but pyarrow."""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

what, uri = sys.argv[1:]
client = flight.connect(uri.replace("grpc://", "grpc+tcp://"))

if what == "send":
    numbers = list(range(2_000, 3_000))
    table = pa.table(
        {
            "key": pa.array([n % 10 for n in numbers], pa.int64()),
            "number": pa.array(numbers, pa.int64()),
            "text": pa.array([f"from pyarrow {n}" for n in numbers], pa.string()),
        }
    )
    options = flight.FlightCallOptions(
        headers=[
            (b"sheaf-shuffle-sender", b"1"),
            (b"sheaf-shuffle-attempt", b"1"),
            (b"sheaf-shuffle-senders", b"2"),
            (b"sheaf-shuffle-checksums", b"none"),
        ]
    )
    descriptor = flight.FlightDescriptor.for_path("shuffle", "query:1", "3", "0")
    writer, answers = client.do_put(descriptor, table.schema, options)
    batches = table.to_batches(max_chunksize=250)
    for batch in batches:
        writer.write_batch(batch)
    commit = {"commit": {"chunks": len(batches), "rows": table.num_rows}}
    writer.write_metadata(json.dumps(commit).encode())
    writer.done_writing()
    print(answers.read().to_pybytes().decode())
    writer.close()
else:
    descriptor = flight.FlightDescriptor.for_path("shuffle", "query:1", "3", "0")
    info = client.get_flight_info(descriptor)
    assert json.loads(info.app_metadata)["ready"]
    reader = client.do_get(info.endpoints[0].ticket)
    rows, total, end = 0, 0, None
    for chunk in reader:
        if chunk.data is not None:
            rows += chunk.data.num_rows
            total += sum(chunk.data.column("number").to_pylist())
        else:
            end = json.loads(chunk.app_metadata.to_pybytes())["end"]
    assert end["rows"] == rows, (end, rows)
    table = client.do_get(info.endpoints[0].ticket).read_all()
    assert table.num_rows == rows, (table.num_rows, rows)
    print(f"rows {rows} sum {total}")
