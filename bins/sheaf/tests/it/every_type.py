"""Puts every type that pyarrow can make, gets it back, has it processed.

Usage: every_type.py grpc://HOST:PORT
"""

import json
import pathlib
import sys
import time
import urllib.parse

import pyarrow as pa
import pyarrow.flight as flight

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).parents[4] / "crates" / "testkit" / "python"))
import arrow_types  # noqa: E402

PATIENCE_SECONDS = 60


class Sheaf:
    def __init__(self, address):
        self.client = flight.connect(address)

    def act(self, name, **body):
        action = flight.Action(name, json.dumps(body).encode())
        [answer] = self.client.do_action(action)
        return json.loads(answer.body.to_pybytes())

    def put(self, schema, batches, path=("batches",), **options):
        options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(**options))
        descriptor = flight.FlightDescriptor.for_path(*path)
        writer, results = self.client.do_put(descriptor, schema, options)
        with writer:
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
            receipt = results.read()
        # A refusal is raised at the end of `with`.
        return json.loads(receipt.to_pybytes())

    def get(self, batch_id):
        descriptor = flight.FlightDescriptor.for_path("batches", batch_id)
        info = self.client.get_flight_info(descriptor)
        [endpoint] = info.endpoints
        return info, self.client.do_get(endpoint.ticket)

    def round_trip(self, schema, batches, **options):
        """Puts record batches and compares what comes back; its receipt."""
        sent = pa.Table.from_batches(batches, schema)
        receipt = self.put(schema, batches, **options)
        assert receipt["created"] and receipt["rows"] == sent.num_rows, receipt
        info, reader = self.get(receipt["batch_id"])
        assert info.total_records == sent.num_rows, info
        assert info.total_bytes == receipt["stored_bytes"] <= receipt["bytes"], info
        assert info.schema.equals(schema, check_metadata=True), info.schema
        assert reader.schema.equals(schema, check_metadata=True), reader.schema
        back = [chunk.data for chunk in reader]
        assert [len(batch) for batch in back] == [len(batch) for batch in batches]
        got = pa.Table.from_batches(back, schema)
        assert got.equals(sent, check_metadata=True), got
        got.validate(full=True)
        return receipt

    def round_trip_of(self, table, **options):
        return self.round_trip(table.schema, table.to_batches(), **options)

    def process(self, batch_id):
        """Registers a batch and waits until the workers are done with it."""
        registered = self.act("RegisterBatch", batch_id=batch_id)
        assert registered["batch_id"] == batch_id and registered["created"], registered
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            batch = self.act("GetBatch", batch_id=batch_id)
            if batch["state"] in ("completed", "failed"):
                break
            assert time.monotonic() < deadline, batch
            # Polite, not a condition: the loop above has the deadline.
            time.sleep(0.005)
        assert batch["state"] == "completed", batch.get("error")
        assert batch["attempts"] == 1, batch


def each_type_alone(sheaf):
    """A type that fails is named."""
    failed = []
    names = set()
    for name, array in arrow_types.columns():
        assert name not in names, name
        names.add(name)
        try:
            sheaf.process(sheaf.round_trip_of(arrow_types.table_of([(name, array)]))["batch_id"])
        except (AssertionError, pa.ArrowException) as error:
            failed.append(f"{name} ({array.type}): {type(error).__name__}: {error}")
    assert not failed, "\n".join(failed)
    return len(names)


def all_types_together(sheaf):
    sent = arrow_types.table_of(arrow_types.columns())
    for compression in (None, "lz4", "zstd"):
        sheaf.process(sheaf.round_trip_of(sent, compression=compression)["batch_id"])


def dictionaries_that_change(sheaf):
    """Deltas, replacements and repetitions arrive as they were sent."""
    def batches(*words):
        for kind in (pa.string(), pa.string_view()):
            yield [pa.record_batch([pa.array(some, kind).dictionary_encode()], ["d"])
                   for some in words]
    stories = [(["a", "b"], ["a", "b", "c"], ["a", "b", "c", "d", "a"]),
               (["a", "b"], ["x"], ["a", "b"]),
               (["a"], ["a"], ["a"])]
    for story in stories:
        for deltas in (True, False):
            for sent in batches(*story):
                receipt = sheaf.round_trip(
                    sent[0].schema, sent, emit_dictionary_deltas=deltas)
                sheaf.process(receipt["batch_id"])


def odd_shapes(sheaf):
    """Empty batches, no batches, no columns, slices, repeated and empty names."""
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False),
                        pa.field("s", pa.string())])
    rows = pa.record_batch([pa.array(range(1000)), pa.array([str(n) for n in range(1000)])],
                           schema=schema)
    empty = rows.slice(0, 0)
    for batches in ([], [empty], [empty, rows, empty], [rows.slice(3, 5), rows.slice(999)],
                    [rows.slice(8 * n + 1, 7) for n in range(50)]):
        sheaf.process(sheaf.round_trip(schema, batches)["batch_id"])
    named = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])],
                                 ["", "\u6f22 ?&=%/", "\u6f22 ?&=%/"])
    sheaf.process(sheaf.round_trip_of(named)["batch_id"])
    # Rows without columns: their number is all there is.
    bare = pa.RecordBatch.from_struct_array(pa.array([{}] * 3, pa.struct([])))
    assert bare.num_rows == 3
    sheaf.process(sheaf.round_trip(bare.schema, [bare, bare])["batch_id"])
    # Bytes that compare with nothing: not a number, with its sign and payload.
    raw = pa.py_buffer(bytes.fromhex("010000000000f87f010000000000f8ff"))
    nan = pa.Array.from_buffers(pa.float64(), 2, [None, raw])
    receipt = sheaf.put(pa.schema([("f", pa.float64())]), [pa.record_batch([nan], ["f"])])
    [chunk] = sheaf.get(receipt["batch_id"])[1].read_all().column(0).chunks
    assert chunk.buffers()[1].to_pybytes()[:16] == raw.to_pybytes()
    sheaf.process(receipt["batch_id"])


def parts_of_a_payload(sheaf):
    """Columns, offset and limit of a ticket."""
    sent = arrow_types.table_of(arrow_types.columns())
    batch_id = sheaf.put(sent.schema, sent.to_batches())["batch_id"]
    wanted = ["string", "dictionary_int8", "struct"]
    ticket = flight.Ticket(f"batches/{batch_id}?columns={','.join(wanted)}&offset=3&limit=4")
    got = sheaf.client.do_get(ticket).read_all()
    assert got.equals(sent.select(wanted).slice(3, 4), check_metadata=True), got
    for name in sent.column_names:
        column = urllib.parse.quote(name, safe="")
        ticket = flight.Ticket(f"batches/{batch_id}?columns={column}&offset=3&limit=4")
        got = sheaf.client.do_get(ticket).read_all()
        assert got.equals(sent.select([name]).slice(3, 4), check_metadata=True), name
        got.validate(full=True)


def the_same_again(sheaf):
    """Another put of the same stream under the same name is the same batch."""
    sent = arrow_types.table_of(arrow_types.columns())
    path = ("batches", "every:type")
    first, again = (sheaf.put(sent.schema, sent.to_batches(), path) for _ in range(2))
    assert first["created"] and not again["created"], (first, again)
    assert first["checksum"] == again["checksum"]
    try:
        sheaf.put(sent.schema, sent.to_batches()[1:], path)
    except pa.ArrowException as error:
        assert "already_exists" in str(error), error
    else:
        raise AssertionError("other content under a name that is taken")


def main():
    sheaf = Sheaf(sys.argv[1])
    count = each_type_alone(sheaf)
    all_types_together(sheaf)
    dictionaries_that_change(sheaf)
    odd_shapes(sheaf)
    parts_of_a_payload(sheaf)
    the_same_again(sheaf)
    print("types", count)


if __name__ == "__main__":
    main()
