"""Sends one partition, and reads one. exchange.py calls it."""

import queue

import pyarrow as pa
from chunks import CODECS, NAMES, batch_of, chunk_of
from sheaf.exchange.v1 import data_exchange_pb2 as pb


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
