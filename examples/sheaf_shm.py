"""Reads batches of a Sheaf server on this machine without copying them.

Start it with `sheaf serve --flight-uds PATH`, and copy this file beside your own.

    import pyarrow.flight as flight
    import sheaf_shm

    client = flight.connect("grpc://localhost:8080")
    table = sheaf_shm.read_table(client, "orders-2026")

The table lies in memory that the server shares, mapped for reading only. It
stays good when the server deletes the batch, or ends. The server knows that it
is in use until the last array of it is gone. Where a batch cannot be shared it
comes over the wire: from a server elsewhere, or of another user.

    python sheaf_shm.py grpc://localhost:8080 BATCH_ID
"""

import errno
import json
import mmap
import os
import socket
import struct
import sys

import pyarrow as pa
import pyarrow.flight as flight

SCHEME = "shm+unix://"
FORMAT = "arrow-ipc-file"
PATIENCE_SECONDS = 10.0
MAX_ANSWER = 4096
MADV_POPULATE_READ = 22


class NotShared(Exception):
    """The batch cannot be had as shared memory; the text says why."""


class _Mapping(mmap.mmap):
    """The bytes of a batch; the lease ends with the last of them."""

    lease = None


def read_table(client, batch_id, columns=None, headers=()):
    """The batch as a table: shared where it can be, else over the wire.

    `columns` are the names of those wanted; `headers` are pairs of bytes to
    send along, such as a token. Which way it came, `map_reader` tells.
    """
    try:
        reader = map_reader(client, batch_id, headers)
    except NotShared:
        options = flight.FlightCallOptions(headers=list(headers))
        table = client.do_get(flight.Ticket(f"batches/{batch_id}"), options).read_all()
    else:
        table = reader.read_all()
    return table if columns is None else table.select(columns)


def map_reader(client, batch_id, headers=()):
    """A `pyarrow.ipc.RecordBatchFileReader` over the server's own memory.

    Raises `NotShared`, and what pyarrow raises where the server does not
    answer (`flight.FlightError`) or has no such batch (`KeyError`).
    """
    asked = [*headers, (b"sheaf-shared-memory", b"true")]
    descriptor = flight.FlightDescriptor.for_path("batches", batch_id)
    info = client.get_flight_info(descriptor, flight.FlightCallOptions(headers=asked))
    locations = [place.uri.decode() for end in info.endpoints for place in end.locations]
    offers = [text for text in locations if text.startswith(SCHEME)]
    if not offers:
        raise NotShared("the server offers no shared memory: start it with --flight-uds")
    path, _, lease = offers[0][len(SCHEME):].partition("?lease=")
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(_fetch(path, lease))))


def _fetch(path, lease):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(PATIENCE_SECONDS)
    descriptors = []
    try:
        connection.connect(path)
        connection.sendall(lease.encode() + b"\n")
        answer, descriptors = _answer(connection)
        if not descriptors:
            raise NotShared(answer.get("error", "nothing was handed over"))
        if answer.get("format") != FORMAT:
            raise NotShared(f"the batch replaces dictionaries: {answer.get('format')}")
        size = os.fstat(descriptors[0]).st_size
        if size != answer["bytes"] or _owner(connection) not in (0, os.geteuid()):
            raise NotShared("what was handed over is not of this user, or was changed")
        mapping = _Mapping(descriptors[0], size, mmap.MAP_SHARED, mmap.PROT_READ)
        _load(mapping)
        mapping.lease, connection = connection, None
        return mapping
    except OSError as error:
        raise NotShared(f"{path}: {error}") from error
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        if connection is not None:
            connection.close()


def _owner(connection):
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return struct.unpack("3i", credentials)[1]


def _load(mapping):
    """Has all of it read: a page that the disk cannot give would end the process."""
    try:
        mapping.madvise(MADV_POPULATE_READ)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 5.14
            raise


def _answer(connection):
    line, descriptors = b"", []
    while not line.endswith(b"\n"):
        received, passed, _, _ = socket.recv_fds(connection, MAX_ANSWER, 1)
        descriptors += passed
        line += received
        if not received or len(line) > MAX_ANSWER:
            raise NotShared("the server broke off while it handed the batch over")
    return json.loads(line), descriptors


def main(uri, batch_id):
    client = flight.connect(uri)
    try:
        reader = map_reader(client, batch_id)
    except NotShared as error:
        print(f"over the wire: {error}")
        table = read_table(client, batch_id)
    else:
        print("shared memory")
        table = reader.read_all()
    print(f"{table.num_rows} rows, {table.nbytes} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python sheaf_shm.py URI BATCH_ID")
    main(sys.argv[1], sys.argv[2])
