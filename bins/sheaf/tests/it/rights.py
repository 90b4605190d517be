"""Puts with one token, and does with a read-only one what that may and may not.

Usage: rights.py grpc://HOST:PORT TOKEN READ_ONLY_TOKEN
"""

import sys

import pyarrow as pa
import pyarrow.flight as flight


def options(token):
    return flight.FlightCallOptions(
        headers=[(b"authorization", b"Bearer " + token.encode())], timeout=30
    )


address, whole, read_only = sys.argv[1:]
client = flight.connect(address)
table = pa.table({"n": [1, 2, 3]})


def put(token, name):
    descriptor = flight.FlightDescriptor.for_path("batches", name)
    writer, reader = client.do_put(descriptor, table.schema, options=options(token))
    try:
        writer.write_table(table)
        writer.done_writing()
        reader.read()
    finally:
        writer.close()


def exchange(token):
    descriptor = flight.FlightDescriptor.for_path("batches", "echo")
    writer, reader = client.do_exchange(descriptor, options=options(token))
    with writer:
        writer.begin(table.schema)
        writer.done_writing()
        reader.read_all()


def action(token, name, body):
    return list(client.do_action(flight.Action(name, body), options=options(token)))


put(whole, "a")
ticket = flight.Ticket(b"batches/a")
rows = client.do_get(ticket, options=options(read_only)).read_all().num_rows
listed = len(list(client.list_flights(options=options(read_only))))

refused = []
for what, letter, attempt in [
    ("put", "w", lambda: put(read_only, "b")),
    ("exchange", "w", lambda: exchange(read_only)),
    ("DeleteBatch", "x", lambda: action(read_only, "DeleteBatch", b'{"batch_id":"a"}')),
    ("CancelBatch", "x", lambda: action(read_only, "CancelBatch", b'{"batch_id":"a"}')),
]:
    try:
        attempt()
    except flight.FlightUnauthorizedError as error:
        text = str(error)
        assert "permission_denied" in text, text
        assert '"reader"' in text and f"lacks {letter}" in text, text
        assert "allow=batches:r" in text, text
        assert read_only not in text, text
        refused.append(what)

# Nothing of it happened.
assert client.do_get(ticket, options=options(whole)).read_all().num_rows == 3
print(f"rows {rows} listed {listed} refused {', '.join(refused)}")
