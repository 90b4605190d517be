"""What files of a topic hold: rows, rows by place, and the sum of a column.

In a bucket where S3_ENDPOINT says so.
"""

import json
import os
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq

endpoint = os.environ.get("S3_ENDPOINT")
place = None
if endpoint:
    place = fs.S3FileSystem(
        endpoint_override=endpoint, access_key="me", secret_key="secret", region="us-east-1"
    )
folder = ds.dataset(sys.argv[1], format="parquet", filesystem=place)
schema = pa.unify_schemas([pq.read_schema(file, filesystem=place) for file in folder.files])
table = ds.dataset(sys.argv[1], schema=schema, format="parquet", filesystem=place).to_table()
places = table.group_by(["_partition", "_offset"]).aggregate([])
total = pc.sum(table[sys.argv[2]]).as_py() if len(sys.argv) > 2 else 0
names = [field.name for field in schema]
print(json.dumps({"seen": [table.num_rows, places.num_rows, total], "columns": names}))
