"""A Flight client of pyarrow that a comparison tells what to do.

    python flight_client.py SERVER [CA]

It takes commands over a connection of its own, a line of JSON each, and answers
each with the seconds that it took and the bytes of the Arrow buffers that went
over the wire. In between it does nothing, so that clients of all sides can be
there at once and be measured in turns.
"""

import json
import pathlib
import socket
import sys
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).parents[3] / "examples"))
import sheaf_shm as shared_memory  # noqa: E402

MIB = 1 << 20
# Two integers, and a string of 16 bytes with its offset.
ROW_BYTES = 36
# Shape -> rows of one record batch.
SHAPES = {"one": 1, "rows1k": 1_000, "mib4": 4 * MIB // ROW_BYTES, "mib64": 64 * MIB // ROW_BYTES}


def make_table(shape, size):
    """At least so many bytes of a shape, in batches with buffers of their own."""
    shape, _, columns = shape.partition("-")
    rows_per_batch = SHAPES[shape]
    rows = max(1, size // (rows_per_batch * ROW_BYTES)) * rows_per_batch
    numbers = pa.array(range(rows), pa.int64())
    digits = pc.utf8_lpad(pc.cast(numbers, pa.string()), 11, "0")
    names = pc.binary_join_element_wise("name-", digits, "")
    if columns == "ints":
        columns = {name: pc.multiply(numbers, factor)
                   for name, factor in [("a", 1), ("b", 31), ("c", 7), ("d", -1)]}
    elif columns == "walk":
        # What can be compressed: integers that walk at random, words of a thousand.
        def number(below):
            return pc.cast(pc.floor(pc.multiply(pc.random(rows), below)), pa.int64())

        def walk():
            return pc.cumulative_sum(pc.subtract(number(17), 8))

        digits = pc.utf8_lpad(pc.cast(number(1_000), pa.string()), 8, "0")
        columns = {"id": walk(), "value": walk(),
                   "word": pc.binary_join_element_wise("station-", digits, "")}
    elif columns == "text":
        columns = {"name": names, "other": names}
    else:
        columns = {"id": numbers, "value": pc.multiply(numbers, 31), "name": names}
    pieces = []
    for batch in pa.table(columns).to_batches(max_chunksize=rows_per_batch):
        # A slice would be measured as the whole.
        pieces.append(pa.concat_tables([pa.Table.from_batches([batch])]).combine_chunks())
    return pa.concat_tables(pieces), rows_per_batch


def batches_of(reader):
    if isinstance(reader, flight.FlightStreamReader):
        return (chunk.data for chunk in reader)
    return (reader.get_batch(at) for at in range(reader.num_record_batches))


def add_up(batch):
    for column in batch.columns:
        pc.sum(column)
    return batch.nbytes


def at_once(calls):
    """Runs the calls on threads that start together; seconds until the last is over."""
    if len(calls) == 1:
        start = time.perf_counter()
        calls[0]()
        return time.perf_counter() - start
    errors, barrier = [], threading.Barrier(len(calls) + 1)

    def run(call):
        barrier.wait()
        try:
            call()
        except BaseException as error:  # told below, on the main thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if errors:
        raise errors[0]
    return seconds


class Client:
    def __init__(self, server, ca=None):
        self.server, self.clients, self.made = server, [], None
        self.tls = {} if ca is None else {"tls_root_certs": pathlib.Path(ca).read_bytes()}

    def connect(self, count):
        # Channels of one process to one address are shared unless told apart.
        while len(self.clients) < count:
            options = [("grpc.use_local_subchannel_pool", 1)]
            client = flight.FlightClient(self.server, generic_options=options, **self.tls)
            self.clients.append(client)

    def get(self, command):
        sizes = []

        def call(client):
            reader = client.do_get(flight.Ticket(f"batches/{command['name']}".encode()))
            sizes.append(sum(chunk.data.nbytes for chunk in reader))

        calls = [lambda client=client: call(client) for client in self.used(command)]
        return at_once(calls), sum(sizes)

    def scan(self, command):
        """All of every column is added up: over the wire, or where the server has it."""
        name, near = command["name"], command.get("near")

        def call(client):
            read = shared_memory.map_reader(client, name) if near else (
                client.do_get(flight.Ticket(f"batches/{name}".encode())))
            sizes.append(sum(add_up(batch) for batch in batches_of(read)))

        sizes = []
        return at_once([lambda: call(self.clients[0])]), sum(sizes)

    def make(self, command):
        self.made = make_table(command["rows"], command["bytes"])
        return 0.0, 0

    def put(self, command):
        table, rows_per_batch = self.made
        headers = [(b"sheaf-durability", command.get("durability", "memory").encode())]
        written = pa.ipc.IpcWriteOptions(compression=command.get("compression"))

        def call(client, name):
            options = flight.FlightCallOptions(headers=headers, write_options=written)
            descriptor = flight.FlightDescriptor.for_path("batches", name)
            writer, reader = client.do_put(descriptor, table.schema, options)
            writer.write_table(table, max_chunksize=rows_per_batch)
            writer.done_writing()
            receipt = json.loads(reader.read().to_pybytes())
            writer.close()
            if receipt["rows"] != table.num_rows:
                raise SystemExit(f"{receipt['rows']} of {table.num_rows} rows are stored")

        used = self.used(command)
        names = [f"{command['name']}.{at}" for at in range(len(used))]
        calls = [lambda pair=pair: call(*pair) for pair in zip(used, names)]
        return at_once(calls), table.nbytes * len(used)

    def one(self, command):
        times = [self.get(command)[0] for _ in range(command["calls"])]
        return sorted(times)[len(times) // 2], 0

    def delete(self, command):
        for at in range(command.get("streams", 1)):
            body = json.dumps({"batch_id": f"{command['name']}.{at}"}).encode()
            list(self.clients[0].do_action(flight.Action("DeleteBatch", body)))
        return 0.0, 0

    def used(self, command):
        return self.clients[:command.get("streams", 1)]

    def obey(self, command):
        self.connect(command.get("streams", 1))
        seconds, size = getattr(self, command["do"])(command)
        return {"seconds": seconds, "bytes": size}


def main():
    client = Client(*sys.argv[1:])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"ready flight=tcp://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as lines:
            for line in lines:
                lines.write(json.dumps(client.obey(json.loads(line))) + "\n")
                lines.flush()


if __name__ == "__main__":
    main()
