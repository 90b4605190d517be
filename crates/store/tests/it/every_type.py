"""Puts every type that pyarrow can make, gets it back and compares.

Usage: every_type.py grpc://HOST:PORT DATA_DIR
"""

import decimal
import glob
import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

TEXT = ["a", None, "a much longer text than fits a view", "b"]


def dictionary(values=None):
    indices = pa.array([0, None, 1, 0], pa.int8())
    return pa.DictionaryArray.from_arrays(indices, values or pa.array(["x", "y"]))


def columns():
    ints = [1, None, 2, 3]
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(),
                 pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
                 pa.float16(), pa.float32(), pa.float64()):
        yield str(kind), pa.array(ints, kind)
    yield "null", pa.nulls(4)
    yield "bool", pa.array([True, None, False, True])
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield str(kind), pa.array(TEXT, kind)
    raw = [text and text.encode() for text in TEXT]
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        yield str(kind), pa.array(raw, kind)
    yield "fixed", pa.array([b"abc", None, b"def", b"ghi"], pa.binary(3))
    number = decimal.Decimal("1.25")
    for kind in (pa.decimal32(5, 2), pa.decimal64(10, 2),
                 pa.decimal128(20, 2), pa.decimal256(50, 2)):
        yield str(kind), pa.array([number, None, -number, number], kind)
    for kind in (pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"),
                 pa.time64("us"), pa.time64("ns")):
        base = pa.int32() if kind.bit_width == 32 else pa.int64()
        yield str(kind), pa.array([86_400_000 if kind == pa.date64() else 3, None, 0, 0], base).cast(kind)
    for unit in ("s", "ms", "us", "ns"):
        yield "ts_" + unit, pa.array(ints, pa.timestamp(unit))
        yield "tz_" + unit, pa.array(ints, pa.timestamp(unit, "Europe/Berlin"))
        yield "duration_" + unit, pa.array(ints, pa.duration(unit))
    yield "interval", pa.array([(1, 2, 3), None, (0, 0, 0), (4, 5, 6)],
                               pa.month_day_nano_interval())
    nested = [[1, 2], None, [], [3]]
    for kind in (pa.list_(pa.int32()), pa.large_list(pa.int32()),
                 pa.list_view(pa.int32()), pa.large_list_view(pa.int32())):
        yield str(kind), pa.array(nested, kind)
    yield "fixed_list", pa.array([[1, 2], None, [3, 4], [5, None]], pa.list_(pa.int32(), 2))
    yield "struct", pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}])
    yield "empty_struct", pa.array([{}, None, {}, {}], pa.struct([]))
    yield "map", pa.array([[("k", 1)], None, [], [("l", None)]], pa.map_(pa.string(), pa.int64()))
    yield "dictionary", dictionary()
    yield "dictionary_u64", pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0], pa.uint64()), pa.array([1.5, 2.5]))
    yield "dictionary_ordered", pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0], pa.int32()), pa.array(["x", "y"]), ordered=True)
    yield "dictionary_in_dictionary", dictionary(pa.StructArray.from_arrays(
        [dictionary().slice(0, 2)], ["inner"]))
    yield "list_of_dictionary", pa.array(
        [["a"], None, ["b", "a"], []], pa.list_(pa.dictionary(pa.int8(), pa.string())))
    yield "map_of_dictionary", pa.array(
        [[("a", "x")], None, [], []],
        pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string())))
    for width in (pa.int16(), pa.int32(), pa.int64()):
        yield "ree_" + str(width), pa.RunEndEncodedArray.from_arrays(
            pa.array([2, 4], width), pa.array(["x", None]))
    tags = pa.array([0, 1, 0, 1], pa.int8())
    yield "sparse", pa.UnionArray.from_sparse(
        tags, [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "c", "d"])])
    yield "dense", pa.UnionArray.from_dense(
        tags, pa.array([0, 0, 1, 1], pa.int32()), [pa.array([1, 2]), pa.array(["x", "y"])])
    yield "uuid", pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([b"0" * 16, None, b"1" * 16, b"2" * 16], pa.binary(16)))
    yield "json", pa.array(["{}", None, "[]", "1"], pa.json_())
    yield "bool8", pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, None, 1], pa.int8()))
    yield "opaque", pa.ExtensionArray.from_storage(
        pa.opaque(pa.int32(), "kind", "vendor"), pa.array(ints, pa.int32()))
    yield "tensor", pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int32(), [2]),
        pa.array([[1, 2]] * 4, pa.list_(pa.int32(), 2)))


def table():
    made = list(columns())
    fields = [pa.field(name, array.type, metadata={b"of": name.encode()}) for name, array in made]
    schema = pa.schema(fields, metadata={b"who": b"every_type", b"bytes": "\u00e4".encode()})
    once = pa.Table.from_arrays([array for _, array in made], schema=schema)
    return pa.concat_tables([once, once.slice(1, 2), once])


def main():
    client = flight.connect(sys.argv[1])
    sent = table()
    for compression in (None, "lz4", "zstd"):
        options = flight.FlightCallOptions(
            write_options=pa.ipc.IpcWriteOptions(compression=compression))
        writer, results = client.do_put(
            flight.FlightDescriptor.for_path("batches"), sent.schema, options)
        for batch in sent.to_batches():
            writer.write_batch(batch)
        writer.done_writing()
        receipt = json.loads(results.read().to_pybytes())
        writer.close()
        assert receipt["created"] and receipt["rows"] == sent.num_rows, receipt

        descriptor = flight.FlightDescriptor.for_path("batches", receipt["batch_id"])
        info = client.get_flight_info(descriptor)
        assert info.total_records == sent.num_rows, info
        assert info.total_bytes == receipt["bytes"], info
        assert info.ordered
        assert info.schema.equals(sent.schema, check_metadata=True)
        [endpoint] = info.endpoints
        reader = client.do_get(endpoint.ticket)
        got = reader.read_all()
        assert got.equals(sent, check_metadata=True), compression
        got.validate(full=True)
        assert len(got.column(0).chunks) == len(sent.column(0).chunks)

        [path] = glob.glob(f"{sys.argv[2]}/batches/*/{receipt['batch_id']}.arrow")
        with pa.memory_map(path) as file:
            stored = pa.ipc.open_file(file).read_all()
            assert stored.equals(sent, check_metadata=True), path
            stored.validate(full=True)
    print("types", sent.num_columns)


main()
