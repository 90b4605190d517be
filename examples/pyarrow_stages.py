"""Counts flights and minutes of delay by carrier, in two stages over several workers.

    sheaf serve --sink parquet:out --processor "exec:python3 pyarrow_stages.py aggregate" &
    python3 pyarrow_stages.py run grpc://localhost:8080 [SERVER ...] < flights.parquet

Each task of the first stage adds up its part of the rows and sends the sums to
partitions by the hash of the carrier; each task of the second adds up one
partition, and its rows go to the sink. Where several servers are named, the
partitions are spread over them.
"""

import json
import sys
import time

import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq

SENDERS, PARTITIONS = 4, 3


def aggregate():
    """The processor of both stages: sums of sums are sums."""
    reader = pa.ipc.open_stream(sys.stdin.buffer)
    sums = reader.read_all().group_by("carrier").aggregate([("flights", "sum"), ("minutes", "sum")])
    sums = sums.rename_columns(["carrier", "flights", "minutes"])
    with pa.ipc.new_stream(sys.stdout.buffer, sums.schema) as writer:
        writer.write_table(sums)


def act(client, name, **body):
    """One JSON action: a dict in, a dict out."""
    action = flight.Action(name, json.dumps(body).encode())
    return json.loads(next(client.do_action(action)).body.to_pybytes())


def add(client, name, table, task, depends_on=()):
    """Stores a payload with its task, and registers it after others."""
    table = table.replace_schema_metadata({"sheaf.shuffle": json.dumps(task)})
    target = flight.FlightDescriptor.for_path("batches", name)
    writer, reader = client.do_put(target, table.schema)
    with writer:
        writer.write_table(table)
        writer.done_writing()
        reader.read()
    act(client, "RegisterBatch", batch_id=name, depends_on=list(depends_on))


def wait(client, name, seconds=120):
    """Waits until nothing more happens to the batch by itself."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        batch = act(client, "GetBatch", batch_id=name)
        if batch["state"] in ("completed", "failed", "cancelled", "expired"):
            return batch
        time.sleep(0.05)
    raise TimeoutError(f"batch {name} is still {batch['state']}")


def run(servers):
    client = flight.connect(servers[0])
    query = f"delays-{time.time_ns()}"
    flights = pq.read_table(pa.BufferReader(sys.stdin.buffer.read()))
    rows = pa.table({
        "carrier": flights["carrier"],
        "flights": pa.array([1] * flights.num_rows, pa.int64()),
        "minutes": flights["dep_delay"].cast(pa.int64()),
    })
    part = -(-rows.num_rows // SENDERS)
    senders = []
    for sender in range(SENDERS):
        output = {"query": query, "stage": 1, "sender": sender, "senders": SENDERS}
        output |= {"workers": servers, "partitions": PARTITIONS, "by": {"hash": ["carrier"]}}
        senders.append(f"{query}.send-{sender}")
        add(client, senders[-1], rows.slice(sender * part, part), {"output": output})
    readers = []
    for partition in range(PARTITIONS):
        worker = servers[partition % len(servers)]
        source = {"worker": worker, "query": query, "stage": 1, "partition": partition}
        readers.append(f"{query}.read-{partition}")
        add(client, readers[-1], pa.table({}), {"inputs": [source]}, senders)
    for name in senders + readers:
        batch = wait(client, name)
        print(name, batch["state"], (batch.get("error") or {}).get("message", ""))
    for server in servers:
        act(flight.connect(server), "CleanupQueryData", query=query)


if __name__ == "__main__":
    if sys.argv[1:] == ["aggregate"]:
        aggregate()
    elif sys.argv[1:2] == ["run"] and len(sys.argv) > 2:
        run(sys.argv[2:])
    else:
        sys.exit(__doc__)
