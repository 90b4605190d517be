"""From the values of messages to Arrow, in the ways that Python has.

Each way makes a function that takes a list of values and gives the columns.
"""

import io
import json

import fastavro
import orjson
import pyarrow as pa
import pyarrow.json

# A zero byte and the schema id, four bytes.
HEADER = 5


def with_pyarrow(schema):
    def convert(values):
        return pyarrow.json.read_json(io.BytesIO(b"\n".join(values)))

    return convert


def with_orjson(schema):
    def convert(values):
        return pa.RecordBatch.from_pylist([orjson.loads(value) for value in values])

    return convert


def with_fastavro(schema):
    parsed = fastavro.parse_schema(json.loads(schema))

    def convert(values):
        rows = []
        for value in values:
            body = io.BytesIO(value)
            body.seek(HEADER)
            rows.append(fastavro.schemaless_reader(body, parsed, None))
        return pa.RecordBatch.from_pylist(rows)

    return convert


WAYS = {"pyarrow": with_pyarrow, "orjson": with_orjson, "fastavro": with_fastavro}
