"""A node of a dataflow of dora."""

import time

import pyarrow as pa
from dora import Node

import work


LINGER = 2


def received(event):
    return pa.RecordBatch.from_struct_array(event["value"])


def inputs(node, count):
    """So many batches, or those that come up to the end of their sender."""
    for event in node:
        if event["type"] == "INPUT":
            yield received(event)
            count -= 1
        if count == 0 or event["type"] == "INPUT_CLOSED":
            return


def main():
    role, count, rows, pace_us, result = work.arguments()
    node = Node()
    if role == "source":
        for batch in work.batches(count, rows, pace_us):
            node.send_output("rows", batch.to_struct_array())
        # What a node that ends has sent and others have not taken yet may be lost.
        time.sleep(LINGER)
    elif role == "filter":
        for batch in inputs(node, count):
            node.send_output("rows", work.keep(batch).to_struct_array())
        time.sleep(LINGER)
    else:
        tally = work.Tally(pace_us > 0)
        for batch in inputs(node, count):
            tally.take(batch)
        tally.write(result)


main()
