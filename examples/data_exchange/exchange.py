"""Sends, lists, reads and drops partitions of a shuffle over DataExchangeService.

    python exchange.py HOST:PORT send|list|receive|drop [options]

README.md in this folder says how to generate the client that is imported here.
"""

import argparse
import queue
import sys

import google_crc32c
import grpc
import pyarrow as pa
from sheaf.exchange.v1 import data_exchange_pb2 as pb
from sheaf.exchange.v1 import data_exchange_pb2_grpc as services

MAX_MESSAGE_BYTES = 32 << 20

CODECS = {
    "none": pb.COMPRESSION_NONE,
    "lz4": pb.COMPRESSION_LZ4,
    "snappy": pb.COMPRESSION_SNAPPY,
    "zstd": pb.COMPRESSION_ZSTD,
}
NAMES = {number: name for name, number in CODECS.items()}


def chunk_of(sequence, batch, compression):
    """One record batch as a chunk."""
    message = batch.serialize()
    payload = message.to_pybytes()
    if compression != "none":
        payload = pa.compress(message, codec=compression, asbytes=True)
    return pb.DataChunk(
        sequence=sequence,
        payload=payload,
        crc32c=google_crc32c.value(payload),
        compression=CODECS[compression],
        uncompressed_bytes=message.size,
        rows=batch.num_rows,
    )


def batch_of(chunk, schema):
    """The record batch in a chunk, after a look at its checksum."""
    found = google_crc32c.value(chunk.payload)
    if found != chunk.crc32c:
        raise ValueError(f"chunk {chunk.sequence} has CRC32C {found:08x}, {chunk.crc32c:08x} was sent")
    codec = NAMES[chunk.compression]
    payload = pa.py_buffer(chunk.payload)
    if codec != "none":
        payload = pa.decompress(payload, decompressed_size=chunk.uncompressed_bytes, codec=codec)
    return pa.ipc.read_record_batch(pa.ipc.read_message(payload), schema)


def send(stub, metadata, where, batches, schema, compression):
    """Sends one attempt over StreamData, within the credits of the worker."""
    outgoing = queue.Queue()
    answers = stub.StreamData(iter(outgoing.get, None), metadata=metadata)
    begin = pb.TransferBegin(
        **where,
        sender=0,
        attempt=1,
        senders=1,
        schema=pb.ArrowSchema(ipc_schema=schema.serialize().to_pybytes()),
    )
    outgoing.put(pb.DataTransferRequest(begin=begin))
    answer = next(answers)
    on_way, rows, taken = [], 0, answer.next_sequence

    def take():
        answer = next(answers)
        on_way.pop(0)
        return answer

    for sequence, batch in enumerate(batches):
        rows += batch.num_rows
        if sequence < taken:
            continue  # It was taken in an earlier call.
        chunk = chunk_of(sequence, batch, compression)
        while on_way and sum(on_way) + len(chunk.payload) > answer.credit_bytes:
            answer = take()
        outgoing.put(pb.DataTransferRequest(chunk=chunk))
        on_way.append(len(chunk.payload))
    while on_way:
        answer = take()
    commit = pb.TransferCommit(chunks=len(batches), rows=rows)
    outgoing.put(pb.DataTransferRequest(commit=commit))
    answer = next(answers)
    outgoing.put(None)
    assert answer.committed, answer
    return answer


def receive(stub, metadata, where, compression):
    """All record batches of a partition that is complete."""
    request = pb.RequestDataRequest(**where, compression=CODECS[compression], wait_ms=5_000)
    schema, batches, end, codecs = None, [], None, set()
    for answer in stub.RequestData(request, metadata=metadata):
        kind = answer.WhichOneof("message")
        if kind == "begin":
            schema = pa.ipc.read_schema(pa.py_buffer(answer.begin.schema.ipc_schema))
        elif kind == "chunk":
            assert answer.chunk.sequence == len(batches), answer.chunk.sequence
            codecs.add(NAMES[answer.chunk.compression])
            batches.append(batch_of(answer.chunk, schema))
        elif kind == "end":
            end = answer.end
    assert end is not None, "the stream was broken off"
    table = pa.Table.from_batches(batches, schema)
    assert (end.chunks, end.rows) == (len(batches), table.num_rows), end
    return table, codecs


def numbers(rows):
    """Rows to send."""
    n = pa.array(range(rows), pa.int64())
    text = pa.array([f"row {at}" for at in range(rows)], pa.string())
    return pa.table({"number": n, "text": text})


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT of the worker")
    parser.add_argument("what", choices=["send", "list", "receive", "drop"])
    parser.add_argument("--query", default="example")
    parser.add_argument("--stage", type=int, default=1)
    parser.add_argument("--partition", type=int, default=0)
    parser.add_argument("--compression", choices=list(CODECS), default="none")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--token", help="sent with every call")
    return parser.parse_args()


def main():
    given = arguments()
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ]
    metadata = [("authorization", f"Bearer {given.token}")] if given.token else []
    where = {"query": given.query, "stage": given.stage, "partition": given.partition}
    with grpc.insecure_channel(given.address, options) as channel:
        stub = services.DataExchangeServiceStub(channel)
        if given.what == "send":
            table = numbers(given.rows)
            batches = table.to_batches(max_chunksize=20_000)
            answer = send(stub, metadata, where, batches, table.schema, given.compression)
            print(f"sent {table.num_rows} rows in {answer.next_sequence} chunks")
        elif given.what == "list":
            request = pb.GetAvailablePartitionsRequest(query=given.query, stage=given.stage)
            for one in stub.GetAvailablePartitions(request, metadata=metadata).partitions:
                state = "ready" if one.ready else f"{one.committed} of {one.senders} senders"
                print(f"partition {one.partition}: {one.rows} rows, {one.chunks} chunks, {state}")
        elif given.what == "receive":
            table, codecs = receive(stub, metadata, where, given.compression)
            total = sum(table.column("number").to_pylist())
            print(f"received {table.num_rows} rows, sum {total}, as {'+'.join(sorted(codecs))}")
        else:
            request = pb.CleanupQueryDataRequest(query=given.query)
            print(f"dropped {stub.CleanupQueryData(request, metadata=metadata).partitions} partitions")


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        code = dict(error.trailing_metadata() or ()).get("sheaf-code", error.code().name)
        text = error.details()
        sys.exit(text if text.startswith(code) else f"{code}: {text}")
