"""A Flight server of pyarrow that keeps tables in memory, as a peer of the store.

Tickets, descriptors and `DeleteBatch` are those of Sheaf, so that one client
speaks to both; a ticket that ends in `?compression=lz4` or `zstd` has the record
batches compressed. Takes where to listen, and certificate and key for TLS; prints where it
listens and serves until it is killed.
"""

import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.flight as flight


class Server(flight.FlightServerBase):
    def __init__(self, location, certificates):
        super().__init__(location, tls_certificates=certificates)
        self.tables = {}

    def do_put(self, context, descriptor, reader, writer):
        table = reader.read_all()
        name = descriptor.path[1].decode()
        self.tables[name] = table
        writer.write(json.dumps({"batch_id": name, "rows": table.num_rows, "bytes": table.nbytes,
                                 "checksum": "", "created": True}).encode())

    def do_get(self, context, ticket):
        name, _, codec = ticket.ticket.decode().split("/", 1)[1].partition("?compression=")
        if not codec:
            return flight.RecordBatchStream(self.tables[name])
        options = pa.ipc.IpcWriteOptions(compression=codec)
        return flight.RecordBatchStream(self.tables[name], options=options)

    def do_action(self, context, action):
        if action.type != "DeleteBatch":
            raise flight.FlightServerError(f"no action {action.type}")
        del self.tables[json.loads(action.body.to_pybytes())["batch_id"]]
        return [b"{}"]


def main():
    location = sys.argv[1] if len(sys.argv) > 1 else "grpc://127.0.0.1:0"
    certificates = [tuple(pathlib.Path(path).read_bytes() for path in sys.argv[2:4])]
    server = Server(location, certificates if len(sys.argv) > 2 else None)
    scheme = location.split(":", 1)[0]
    where = location if "unix" in location else f"{scheme}://127.0.0.1:{server.port}"
    print(f"ready flight={where}", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
