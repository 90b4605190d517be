"""One client for two Flight servers: the same calls to each, in turns.

    python flight_client.py --ours ADDRESS PID --peer ADDRESS PID --rounds N [--quick]

First both get the same data. Then every round measures every case on one server
and at once on the other. One line of JSON each: case, side, seconds, bytes and
the CPU seconds of the server; what goes over the wire is counted as the bytes
of the Arrow buffers.
"""

import argparse
import json
import os
import threading
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.flight as flight

MIB = 1 << 20
ROW_BYTES = 36
# Shape -> rows of one record batch.
SHAPES = {"rows1k": 1_000, "mib4": 4 * MIB // ROW_BYTES, "mib64": 64 * MIB // ROW_BYTES}
TICK = os.sysconf("SC_CLK_TCK")
MEMORY, DISK = "memory", "disk"


def make_table(rows, rows_per_batch):
    """Two integers and a string of 16 bytes a row."""
    numbers = pa.array(range(rows), pa.int64())
    digits = pc.utf8_lpad(pc.cast(numbers, pa.string()), 11, "0")
    names = pc.binary_join_element_wise("name-", digits, "")
    table = pa.table({"id": numbers, "value": pc.multiply(numbers, 31), "name": names})
    pieces = []
    for batch in table.to_batches(max_chunksize=rows_per_batch):
        # Buffers of its own: a slice would be measured as the whole.
        pieces.append(pa.concat_tables([pa.Table.from_batches([batch])]).combine_chunks())
    return pa.concat_tables(pieces)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Side:
    def __init__(self, name, address, pid):
        self.name, self.pid = name, int(pid)
        self.address = address
        self.clients = []

    def connect(self, count):
        # Channels of one process to one address are shared unless told apart.
        while len(self.clients) < count:
            options = [("grpc.use_local_subchannel_pool", 1)]
            self.clients.append(flight.FlightClient(self.address, generic_options=options))

    def put(self, client, name, table, rows_per_batch, durability):
        headers = [(b"sheaf-durability", durability.encode())]
        options = flight.FlightCallOptions(headers=headers)
        descriptor = flight.FlightDescriptor.for_path("batches", name)
        writer, reader = client.do_put(descriptor, table.schema, options)
        writer.write_table(table, max_chunksize=rows_per_batch)
        writer.done_writing()
        receipt = json.loads(reader.read().to_pybytes())
        writer.close()
        if receipt["rows"] != table.num_rows:
            raise SystemExit(f"{self.name} stored {receipt['rows']} of {table.num_rows} rows")

    def get(self, client, name):
        table = client.do_get(flight.Ticket(f"batches/{name}".encode())).read_all()
        return table.num_rows

    def delete(self, name):
        body = json.dumps({"batch_id": name}).encode()
        list(self.clients[0].do_action(flight.Action("DeleteBatch", body)))


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


class Bench:
    def __init__(self, sides, quick):
        self.sides, self.quick = sides, quick
        self.tables, self.puts = {}, 0
        for side in sides:
            side.connect(8)
        for shape, rows_per_batch in SHAPES.items():
            for streams in (1, 8):
                rows = self.rows_of(shape, streams)
                self.tables[shape, streams] = make_table(rows, rows_per_batch)
        one = make_table(1, 1)
        for side in sides:
            for (shape, streams), table in self.tables.items():
                side.put(side.clients[0], f"{shape}.{streams}", table, SHAPES[shape], MEMORY)
            side.put(side.clients[0], "one", one, 1, MEMORY)
            for client in side.clients:  # none is measured while it connects
                side.get(client, "one")

    def rows_of(self, shape, streams):
        """256 MiB in one stream, 64 MiB in each of eight; of small batches a quarter."""
        mib = 64 if streams > 1 else 256
        if self.quick:
            mib = 64 if shape == "mib64" else 4
        if shape == "rows1k":
            mib //= 4
        batches = max(1, mib * MIB // ROW_BYTES // SHAPES[shape])
        return batches * SHAPES[shape]

    def say(self, case, side, seconds, size, cpu):
        print(json.dumps({"case": case, "side": side.name, "seconds": seconds, "bytes": size,
                          "cpu": cpu}), flush=True)

    def measure(self, case, side, calls, size):
        cpu = cpu_seconds(side.pid)
        seconds = at_once(calls)
        self.say(case, side, seconds, size, cpu_seconds(side.pid) - cpu)

    def get(self, side, shape, streams):
        table = self.tables[shape, streams]

        def call(client):
            rows = side.get(client, f"{shape}.{streams}")
            if rows != table.num_rows:
                raise SystemExit(f"{side.name} gave {rows} of {table.num_rows} rows")

        calls = [lambda client=client: call(client) for client in side.clients[:streams]]
        self.measure(f"doget {shape} {streams}", side, calls, table.nbytes * streams)

    def put(self, side, shape, streams, durability=MEMORY):
        table = self.tables[shape, streams]
        self.puts += 1
        names = [f"put.{self.puts}.{number}" for number in range(streams)]

        def call(client, name):
            side.put(client, name, table, SHAPES[shape], durability)

        calls = [lambda pair=pair: call(*pair) for pair in zip(side.clients, names)]
        case = "doput" if durability == MEMORY else "doput-disk"
        self.measure(f"{case} {shape} {streams}", side, calls, table.nbytes * streams)
        for name in names:
            side.delete(name)

    def get_one(self, side):
        count, times = 20 if self.quick else 1_000, []
        for _ in range(count):
            start = time.perf_counter()
            side.get(side.clients[0], "one")
            times.append(time.perf_counter() - start)
        self.say("get-1row", side, sorted(times)[count // 2], 0, 0.0)

    def round(self, order):
        for shape in SHAPES:
            for streams in (1, 8):
                for operation in (self.get, self.put):
                    for side in order:
                        operation(side, shape, streams)
        for side in order:
            self.put(side, "mib4", 1, DISK)
        for side in order:
            self.get_one(side)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", nargs=2, required=True)
    parser.add_argument("--peer", nargs=2, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    sides = [Side("ours", *arguments.ours), Side("peer", *arguments.peer)]
    bench = Bench(sides, arguments.quick)
    for number in range(arguments.rounds):
        # Who goes first changes, for the second finds warmer caches.
        bench.round(sides if number % 2 == 0 else sides[::-1])


if __name__ == "__main__":
    main()
