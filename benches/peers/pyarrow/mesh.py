"""One of several processes that send batches to each other, all at once.

Each has a Flight server. A round sends so many bytes of ready-made batches of
4 MiB to each other process, in one DoPut each, and takes as much from each. It
takes commands over a connection of its own, a line of JSON each; before the
first it says there by which address the others reach it.
"""

import concurrent.futures
import json
import socket
import threading

import pyarrow as pa
import pyarrow.flight as flight

BATCH_BYTES = 4 << 20
ROWS = BATCH_BYTES // 32
NUMBERS = pa.array(range(ROWS), pa.uint64())
BATCH = pa.record_batch({name: NUMBERS for name in ("key", "a", "b", "c")})


class Server(flight.FlightServerBase):
    """Reads what is put and lets it go."""

    def __init__(self):
        super().__init__("grpc://127.0.0.1:0")

    def do_put(self, context, descriptor, reader, writer):
        rows = sum(chunk.data.num_rows for chunk in reader)
        writer.write(str(rows).encode())


def send(client, batches):
    descriptor = flight.FlightDescriptor.for_path("mesh")
    writer, answers = client.do_put(descriptor, BATCH.schema)
    with writer:
        for _ in range(batches):
            writer.write_batch(BATCH)
        writer.done_writing()
        rows = int(answers.read().to_pybytes())
    if rows != batches * ROWS:
        raise ValueError(f"{rows} rows came")
    return batches * BATCH_BYTES


def main():
    server = Server()
    threading.Thread(target=server.serve, daemon=True).start()
    listener = socket.create_server(("127.0.0.1", 0))
    print("ready flight=tcp://{}:{}".format(*listener.getsockname()), flush=True)
    stream = listener.accept()[0].makefile("rw")
    print(json.dumps({"address": f"grpc://127.0.0.1:{server.port}"}), file=stream, flush=True)
    clients = {}
    for line in stream:
        command = json.loads(line)
        others = [peer for at, peer in enumerate(command["peers"]) if at != command["index"]]
        batches = max(1, command["size"] // BATCH_BYTES)
        with concurrent.futures.ThreadPoolExecutor(max(1, len(others))) as threads:
            for peer in others:
                clients[peer] = clients.get(peer) or flight.connect(peer)
            sends = [threads.submit(send, clients[peer], batches) for peer in others]
            sent = sum(one.result() for one in sends)
        print(json.dumps({"bytes": sent}), file=stream, flush=True)


if __name__ == "__main__":
    main()
