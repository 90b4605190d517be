"""Sends a partition of a shuffle, or receives it, with nothing but pyarrow.

    python pyarrow_shuffle.py grpc://localhost:8815 send|receive [QUERY [PARTITION]]

The worker is `cargo run -p sheaf-examples --example exchange_server`, or any other
that serves the Flight namespace `shuffle`. A chunk is known by query, stage,
partition, sender, attempt and number; here there is one sender, in its first attempt.
"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

STAGE = "1"


def descriptor(query, partition):
    return flight.FlightDescriptor.for_path("shuffle", query, STAGE, partition)


def send(client, query, partition, table):
    """One attempt in one put: the schema, chunks, and how many there were.

    pyarrow cannot put a checksum beside a chunk that it encodes itself, so it says that
    there are none; chunks are numbered as they come.
    """
    headers = {
        "sheaf-shuffle-sender": "0",
        "sheaf-shuffle-attempt": "1",
        "sheaf-shuffle-senders": "1",
        "sheaf-shuffle-checksums": "none",
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    options = flight.FlightCallOptions(headers=pairs)
    writer, answers = client.do_put(descriptor(query, partition), table.schema, options)
    batches = table.to_batches(max_chunksize=20_000)
    for batch in batches:
        writer.write_batch(batch)
    commit = {"commit": {"chunks": len(batches), "rows": table.num_rows}}
    writer.write_metadata(json.dumps(commit).encode())
    writer.done_writing()
    answer = json.loads(answers.read().to_pybytes())
    writer.close()
    assert answer["committed"], answer
    return answer


def receive(client, query, partition):
    """All rows of a partition that is complete: its end says how many there are."""
    info = client.get_flight_info(descriptor(query, partition))
    there = json.loads(info.app_metadata)
    if not there["ready"]:
        sys.exit(f"{there['committed']} of {there['senders']} senders have committed")
    reader = client.do_get(info.endpoints[0].ticket)
    batches, end = [], None
    for chunk in reader:
        if chunk.data is not None:
            batches.append(chunk.data)
        else:
            end = json.loads(chunk.app_metadata.to_pybytes())["end"]
    assert end is not None, "the stream was broken off"
    table = pa.Table.from_batches(batches, reader.schema)
    assert end["rows"] == table.num_rows, (end, table.num_rows)
    return table


def main():
    uri, what, *rest = sys.argv[1:]
    query, partition = (*rest, *["example", "0"][len(rest) :])
    client = flight.connect(uri)
    if what == "send":
        numbers = list(range(100_000))
        text = [f"row {n}" for n in numbers]
        table = pa.table({"number": pa.array(numbers, pa.int64()), "text": text})
        print(f"sent {table.num_rows} rows in {send(client, query, partition, table)['next_sequence']} chunks")
    elif what == "receive":
        table = receive(client, query, partition)
        print(f"received {table.num_rows} rows, sum {sum(table.column('number').to_pylist())}")
    else:
        sys.exit(f"{what!r} is neither send nor receive")


if __name__ == "__main__":
    main()
