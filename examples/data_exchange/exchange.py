"""Sends, lists, reads and drops partitions of a shuffle over DataExchangeService.

    python exchange.py HOST:PORT send|list|receive|drop [options]

README.md in this folder says how to generate the client that is imported here.
"""

import argparse
import sys

import grpc
import peer
import pyarrow as pa
from chunks import CODECS
from sheaf.exchange.v1 import data_exchange_pb2 as pb
from sheaf.exchange.v1 import data_exchange_pb2_grpc as services

MAX_MESSAGE_BYTES = 32 << 20


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
            answer = peer.send(stub, metadata, where, batches, table.schema, given.compression)
            print(f"sent {table.num_rows} rows in {answer.next_sequence} chunks")
        elif given.what == "list":
            request = pb.GetAvailablePartitionsRequest(query=given.query, stage=given.stage)
            for one in stub.GetAvailablePartitions(request, metadata=metadata).partitions:
                state = "ready" if one.ready else f"{one.committed} of {one.senders} senders"
                print(f"partition {one.partition}: {one.rows} rows, {one.chunks} chunks, {state}")
        elif given.what == "receive":
            table, codecs = peer.receive(stub, metadata, where, given.compression)
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
