"""Puts, registers, watches and gets batches with nothing but pyarrow.

    python pyarrow_client.py grpc://localhost:8080 [FILE.parquet]
"""

import json
import sys
import time

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq


def act(client, name, **body):
    """One JSON action: a dict in, a dict out."""
    action = flight.Action(name, json.dumps(body).encode())
    return json.loads(next(client.do_action(action)).body.to_pybytes())


def put(client, table):
    """Stores a table as one batch; the answer has its id, rows, bytes and checksum."""
    target = flight.FlightDescriptor.for_path("batches")
    writer, reader = client.do_put(target, table.schema)
    with writer:
        writer.write_table(table, max_chunksize=64_000)
        writer.done_writing()
        return json.loads(reader.read().to_pybytes())


def get(client, batch_id):
    """The table that was put under this id."""
    info = client.get_flight_info(flight.FlightDescriptor.for_path("batches", batch_id))
    return client.do_get(info.endpoints[0].ticket).read_all()


def wait(client, batch_id, seconds=60):
    """Waits until nothing more happens to the batch by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batch = act(client, "GetBatch", batch_id=batch_id)
        if batch["state"] in ("completed", "failed", "cancelled", "expired"):
            return batch
        time.sleep(0.05)
    raise TimeoutError(f"batch {batch_id} is still {batch['state']}")


def main():
    client = flight.connect(sys.argv[1] if len(sys.argv) > 1 else "grpc://localhost:8080")
    if len(sys.argv) > 2:
        table = pq.read_table(sys.argv[2])
    else:
        table = pa.table({"city": ["Oslo", "Lima", "Pune"], "degrees": [3.5, 18.0, 31.2]})

    receipt = put(client, table)
    print("put       ", receipt["batch_id"], receipt["rows"], "rows", receipt["bytes"], "bytes")
    print("registered", act(client, "RegisterBatch", batch_id=receipt["batch_id"])["state"])
    batch = wait(client, receipt["batch_id"])
    print("now       ", batch["state"], "after", batch["attempts"], "attempt(s)")
    assert get(client, receipt["batch_id"]).equals(table, check_metadata=True)
    print("got back   the same", table.num_rows, "rows")


if __name__ == "__main__":
    main()
