"""Every type that pyarrow can make, there and back through partitions.

    pyarrow_partitions.py make FOLDER    writes a stream for each type
    pyarrow_partitions.py check FOLDER   compares those with their partitions

Rows are dealt to three partitions in turn.
"""

import pathlib
import sys

import pyarrow as pa

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "testkit/python"))

import arrow_types  # noqa: E402

PARTITIONS = 3


def make(folder):
    for number, pair in enumerate(arrow_types.columns()):
        table = arrow_types.table_of([pair])
        with pa.ipc.new_stream(folder / f"{number}.arrow", table.schema) as writer:
            writer.write_table(table)


def value(scalar):
    """What Python has no type for, nanoseconds and names that two fields have,
    as numbers and lists."""
    try:
        return scalar.as_py()
    except ValueError:
        if isinstance(scalar, pa.StructScalar):
            return [value(scalar[field]) for field in range(len(scalar))]
        return scalar.value


def values(column):
    return [value(scalar) for scalar in column]


def check(folder):
    types = 0
    for number, (name, _) in enumerate(arrow_types.columns()):
        table = pa.ipc.open_stream(folder / f"{number}.arrow").read_all()
        rows = values(table.column(0))
        for partition in range(PARTITIONS):
            part = pa.ipc.open_stream(folder / f"{number}.{partition}.parts").read_all()
            part.validate(full=True)
            assert part.schema.equals(table.schema, check_metadata=True), (name, part.schema)
            got, wanted = values(part.column(0)), rows[partition::PARTITIONS]
            assert got == wanted, (name, partition, got, wanted)
        types += 1
    print("types", types)


{"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
