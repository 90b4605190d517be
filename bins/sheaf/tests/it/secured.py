"""Calls a server under TLS with a token, and without the right one.

Usage: secured.py grpc+tls://HOST:PORT CA_FILE TOKEN WRONG_TOKEN...
"""

import pathlib
import sys

import pyarrow as pa
import pyarrow.flight as flight


def options(token):
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    return flight.FlightCallOptions(headers=headers, timeout=30)


address, ca, token, *wrong = sys.argv[1:]
client = flight.connect(address, tls_root_certs=pathlib.Path(ca).read_bytes())

refused = 0
for bad in [None, *wrong]:
    try:
        list(client.list_flights(options=options(bad)))
    except flight.FlightUnauthenticatedError as error:
        assert "unauthenticated" in str(error), error
        assert bad is None or bad not in str(error), error
        refused += 1

table = pa.table({"n": [1, 2, 3]})
descriptor = flight.FlightDescriptor.for_path("batches", "from-pyarrow")
writer, reader = client.do_put(descriptor, table.schema, options=options(token))
writer.write_table(table)
writer.done_writing()
reader.read()
writer.close()
ticket = flight.Ticket(b"batches/from-pyarrow")
rows = client.do_get(ticket, options=options(token)).read_all().num_rows
print(f"refused {refused} rows {rows}")
