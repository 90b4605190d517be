"""Reads batches as shared memory, with the module that the examples have.

    shared.py URI METRICS_URL
    shared.py URI hold ID   maps a batch, says `held`, and waits until it or the
                            server is killed; says `good` where it still can read
"""

import json
import pathlib
import sys
import time
import urllib.request

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).parents[4] / "examples"))
import sheaf_shm  # noqa: E402

ROWS = 300_000
PATIENCE_SECONDS = 20


def table():
    numbers = pa.array(range(ROWS), pa.int64())
    names = pa.array([f"name {n % 1000}" for n in range(ROWS)])
    return pa.table({"n": numbers, "name": names, "kind": names.dictionary_encode()})


def put(client, batch_id, durability):
    options = flight.FlightCallOptions(headers=[(b"sheaf-durability", durability)])
    target = flight.FlightDescriptor.for_path("batches", batch_id)
    writer, reader = client.do_put(target, table().schema, options)
    with writer:
        writer.write_table(table(), max_chunksize=50_000)
        writer.done_writing()
        reader.read()


def leases(metrics):
    text = urllib.request.urlopen(metrics).read().decode()
    [line] = [line for line in text.splitlines() if line.startswith("sheaf_store_shared_leases ")]
    return int(line.split()[1])


def wait_for_leases(metrics, count):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while leases(metrics) != count:
        assert time.monotonic() < deadline, (leases(metrics), count)
        time.sleep(0.01)


def replaced(client):
    """A stream that replaces a dictionary is no file: it comes over the wire."""
    values = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "d"]).dictionary_encode()]
    schema = pa.schema([("kind", values[0].type)])
    target = flight.FlightDescriptor.for_path("batches", "replaced")
    writer, reader = client.do_put(target, schema)
    with writer:
        for one in values:
            writer.write_batch(pa.record_batch([one], schema=schema))
        writer.done_writing()
        reader.read()
    try:
        sheaf_shm.map_reader(client, "replaced")
        raise AssertionError("shared although it replaces a dictionary")
    except sheaf_shm.NotShared as error:
        assert "dictionaries" in str(error), error
    read = sheaf_shm.read_table(client, "replaced")
    assert read["kind"].to_pylist() == ["a", "b", "c", "d"], read


def main(client, metrics):
    for durability in (b"memory", b"disk"):
        batch_id = f"shared-{durability.decode()}"
        put(client, batch_id, durability)
        before = pa.total_allocated_bytes()
        reader = sheaf_shm.map_reader(client, batch_id)
        read = reader.read_all()
        grown = pa.total_allocated_bytes() - before
        # Neither the batches nor the dictionary are copied.
        assert grown < read.nbytes // 100, (grown, read.nbytes)
        assert read.equals(table()), batch_id
        read.validate(full=True)
        wait_for_leases(metrics, 1)
        body = json.dumps({"batch_id": batch_id}).encode()
        list(client.do_action(flight.Action("DeleteBatch", body)))
        del reader
        assert pc.sum(read["n"]).as_py() == ROWS * (ROWS - 1) // 2
        slice_of_it = read["name"].slice(10, 1)
        del read
        wait_for_leases(metrics, 1)
        assert slice_of_it.to_pylist() == ["name 10"]
        del slice_of_it
        wait_for_leases(metrics, 0)
        try:
            sheaf_shm.read_table(client, batch_id)
            raise AssertionError("read although it is deleted")
        except KeyError as error:
            assert batch_id in str(error), error
    replaced(client)
    put(client, "held", b"memory")
    assert sheaf_shm.read_table(client, "held", ["kind"]).num_columns == 1
    print("same")


def hold(client, batch_id):
    read = sheaf_shm.map_reader(client, batch_id).read_all()
    print("held", flush=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            list(client.list_flights())
        except flight.FlightUnavailableError:
            assert read.equals(table())
            print("good", flush=True)
            return
        time.sleep(0.05)


if __name__ == "__main__":
    connected = flight.connect(sys.argv[1])
    if sys.argv[2] == "hold":
        hold(connected, sys.argv[3])
    else:
        main(connected, sys.argv[2])
