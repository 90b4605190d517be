"""Reads a topic of sheaf-gateway: what is there, then what comes.

    pip install pyarrow
    python read_topic.py logs

A follower is told by an error when the columns of the topic change, and where to go on.
"""

import re
import sys

import pyarrow as pa
import pyarrow.flight as flight


def main(topic, server="grpc://localhost:8080"):
    client = flight.connect(server)
    info = client.get_flight_info(flight.FlightDescriptor.for_path(topic))
    table = client.do_get(info.endpoints[0].ticket).read_all()
    print(f"{table.num_rows} rows of {topic}: {', '.join(table.schema.names)}", flush=True)

    place = "newest"
    while place:
        ticket = flight.Ticket(f"topics/{topic}?follow=true&from={place}")
        try:
            for chunk in client.do_get(ticket):
                print(chunk.data.to_pylist(), flush=True)
            place = None
        except pa.ArrowException as error:
            again = re.search(r"ask again with from=(~\d+)", str(error))
            if not again:
                raise
            place = again[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
