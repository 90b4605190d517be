"""Compares the result of an example with pyarrow's: JOB DATA OUT."""

import glob
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

job, data, out = sys.argv[1:]
KEYS = ["origin", "time_hour"]


def table(name):
    return pq.read_table(os.path.join(data, f"{name}.parquet"))


def expected():
    flights = table("flights")
    if job == "group_by":
        sums = [([], "count_all"), ("arr_delay", "sum"), ("arr_delay", "max")]
        groups = flights.group_by("tailnum").aggregate(sums)
        names = {"count_all": "flights", "arr_delay_sum": "minutes", "arr_delay_max": "worst"}
        return groups.rename_columns(names | {"tailnum": "tailnum"})
    weather = table("weather").drop_columns(["year", "month", "day", "hour"])
    return flights.join(weather, KEYS, join_type="inner")


def in_order(rows):
    """Both as sets with repetitions: in the order of all columns."""
    return rows.sort_by([(name, "ascending") for name in rows.column_names]).combine_chunks()


wanted = expected()
files = sorted(glob.glob(os.path.join(out, "part-*.parquet")))
# Not as one data set: a file of another schema is an error, not nulls.
found = pa.concat_tables([pq.read_table(file) for file in files]).select(wanted.column_names)
if found.num_rows != wanted.num_rows:
    sys.exit(f"{found.num_rows} rows were found, pyarrow has {wanted.num_rows}")
found, wanted = in_order(found.cast(wanted.schema)), in_order(wanted)
for name in wanted.column_names:
    if not found[name].equals(wanted[name]):
        sys.exit(f"column {name} differs from pyarrow's")
print(found.num_rows)
