"""One column of four rows for every type that pyarrow can make.

Shared by the tests that send Arrow data through a port: a type added here is
tried everywhere.
"""

import decimal
import math

import pyarrow as pa

# The third one does not fit into a view, the first one does.
TEXT = ["a", None, "a much longer text than fits a view", "b \u00e4\u6f22"]


class Celsius(pa.ExtensionType):
    """An extension type that the server has never heard of."""

    def __init__(self, place="here"):
        self.place = place
        super().__init__(pa.float64(), "sheaf.test.celsius")

    def __arrow_ext_serialize__(self):
        return self.place.encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls(serialized.decode())


class Labels(pa.ExtensionType):
    """An extension type over nested storage."""

    def __init__(self):
        storage = pa.list_(pa.dictionary(pa.int8(), pa.string()))
        super().__init__(storage, "sheaf.test.labels")

    def __arrow_ext_serialize__(self):
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


pa.register_extension_type(Celsius())
pa.register_extension_type(Labels())


def dictionary(values=None, width=pa.int8(), ordered=False):
    return pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0], width), values or pa.array(["x", "y"]), ordered=ordered)


def extension(kind, values):
    return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))


def numbers():
    for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(),
                 pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        top = 2 ** (kind.bit_width - (1 if str(kind)[0] == "i" else 0)) - 1
        yield str(kind), pa.array([1, None, top, 0], kind)
    # No NaN: it equals nothing. It has a test of its own over the bytes.
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        yield str(kind), pa.array([1.5, None, math.inf, -0.0], kind)
    number = decimal.Decimal("1.25")
    for kind in (pa.decimal32(5, 2), pa.decimal64(10, 2), pa.decimal128(38, 2),
                 pa.decimal256(76, 2), pa.decimal128(10, 2)):
        yield str(kind), pa.array([number, None, -number, number], kind)
    hundreds = decimal.Decimal("1200")
    yield "decimal_negative_scale", pa.array([hundreds, None, hundreds, hundreds],
                                             pa.decimal128(5, -2))


def texts():
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield str(kind), pa.array(TEXT, kind)
    raw = [text and text.encode() for text in TEXT]
    for kind in (pa.binary(), pa.large_binary(), pa.binary_view()):
        yield str(kind), pa.array(raw, kind)
    yield "fixed", pa.array([b"abc", None, b"def", b"ghi"], pa.binary(3))


def times():
    for kind in (pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"),
                 pa.time64("us"), pa.time64("ns")):
        base = pa.int32() if kind.bit_width == 32 else pa.int64()
        first = 86_400_000 if kind == pa.date64() else 3
        yield str(kind), pa.array([first, None, 0, 0], base).cast(kind)
    ints = [1, None, -2, 3]
    for unit in ("s", "ms", "us", "ns"):
        yield "ts_" + unit, pa.array(ints, pa.timestamp(unit))
        yield "tz_" + unit, pa.array(ints, pa.timestamp(unit, "Europe/Berlin"))
        yield "duration_" + unit, pa.array(ints, pa.duration(unit))
    yield "tz_offset", pa.array(ints, pa.timestamp("us", "+05:30"))
    yield "interval", pa.array([(1, 2, 3), None, (0, 0, 0), (-4, 5, 6)],
                               pa.month_day_nano_interval())


def lists():
    nested = [[1, 2], None, [], [3]]
    for kind in (pa.list_(pa.int32()), pa.large_list(pa.int32()),
                 pa.list_view(pa.int32()), pa.large_list_view(pa.int32())):
        yield str(kind), pa.array(nested, kind)
    for made, width in ((pa.ListViewArray, pa.int32()), (pa.LargeListViewArray, pa.int64())):
        # Backwards, overlapping and with a hole: what only a view can say.
        yield made.__name__ + "_unordered", made.from_arrays(
            pa.array([4, 0, 3, 1], width), pa.array([2, 1, 3, 0], width),
            pa.array([0, 1, 2, 3, 4, 5]))
    yield "fixed_list", pa.array([[1, 2], None, [3, 4], [5, None]], pa.list_(pa.int32(), 2))
    yield "fixed_list_of_struct", pa.array([[{"a": 1}], None, [None], [{"a": 2}]],
                                           pa.list_(pa.struct([("a", pa.int8())]), 1))
    yield "list_of_view", pa.array([["a", TEXT[2]], None, [], [None]],
                                   pa.list_(pa.string_view()))
    yield "deep", pa.array([[[[1], None], []], None, [None], [[[2, 3]]]],
                           pa.list_(pa.large_list(pa.list_(pa.int64()))))
    yield "item_metadata", pa.array(nested, pa.list_(
        pa.field("thing", pa.int32(), metadata={b"unit": b"m"})))


def structs():
    yield "struct", pa.array(
        [{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 2, "b": []}])
    yield "empty_struct", pa.array([{}, None, {}, {}], pa.struct([]))
    yield "struct_same_names", pa.StructArray.from_arrays(
        [pa.array([1, 2, 3, 4]), pa.array(["a", "b", "c", "d"])], ["n", "n"])
    yield "map", pa.array([[("k", 1)], None, [], [("l", None)]],
                          pa.map_(pa.string(), pa.int64()))
    yield "map_sorted", pa.array([[("k", 1), ("l", 2)], None, [], [("l", None)]],
                                 pa.map_(pa.string(), pa.int64(), keys_sorted=True))
    yield "map_of_maps", pa.array(
        [[(1, [("a", 1.5)])], None, [(2, None)], []],
        pa.map_(pa.int32(), pa.map_(pa.string(), pa.float64())))


def dictionaries():
    for width in (pa.int8(), pa.int16(), pa.int32(), pa.int64(),
                  pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()):
        yield "dictionary_" + str(width), dictionary(width=width)
    yield "dictionary_ordered", dictionary(ordered=True)
    for values in (pa.array([1.5, 2.5]), pa.array(["x", TEXT[2]], pa.string_view()),
                   pa.array(["x", None]), pa.array([[1], [2, 3]]),
                   pa.array([{"a": 1}, {"a": 2}])):
        yield f"dictionary_of_{values.type}_{values.null_count}", dictionary(values)
    yield "dictionary_in_dictionary", dictionary(pa.StructArray.from_arrays(
        [dictionary().slice(0, 2)], ["inner"]))
    yield "list_of_dictionary", pa.array(
        [["a"], None, ["b", "a"], []], pa.list_(pa.dictionary(pa.int8(), pa.string())))
    yield "map_of_dictionary", pa.array(
        [[("a", "x")], None, [], []],
        pa.map_(pa.string(), pa.dictionary(pa.int8(), pa.string())))
    yield "struct_of_dictionary", pa.StructArray.from_arrays([dictionary()], ["d"])


def runs():
    for width in (pa.int16(), pa.int32(), pa.int64()):
        yield "ree_" + str(width), pa.RunEndEncodedArray.from_arrays(
            pa.array([2, 4], width), pa.array(["x", None]))
    ends = pa.array([1, 4], pa.int32())
    yield "ree_of_struct", pa.RunEndEncodedArray.from_arrays(
        ends, pa.array([{"a": 1}, {"a": None}]))
    yield "ree_of_dictionary", pa.RunEndEncodedArray.from_arrays(
        ends, dictionary().slice(0, 2))
    yield "struct_of_ree", pa.StructArray.from_arrays(
        [pa.RunEndEncodedArray.from_arrays(ends, pa.array([1, 2]))], ["r"])


def unions():
    tags = pa.array([0, 1, 0, 1], pa.int8())
    sparse = pa.UnionArray.from_sparse(
        tags, [pa.array([1, None, 3, 4]), pa.array(["a", "b", "c", None])])
    offsets = pa.array([0, 0, 1, 1], pa.int32())
    children = [pa.array([1, None]), pa.array(["x", "y"])]
    dense = pa.UnionArray.from_dense(tags, offsets, children)
    yield "sparse", sparse
    yield "dense", dense
    yield "dense_codes", pa.UnionArray.from_dense(
        pa.array([7, 5, 7, 5], pa.int8()), offsets, children, ["seven", "five"], [7, 5])
    yield "sparse_in_struct", pa.StructArray.from_arrays([sparse], ["u"])
    yield "list_of_dense", pa.ListArray.from_arrays(pa.array([0, 1, 1, 3, 4], pa.int32()), dense)


def extensions():
    yield "uuid", extension(pa.uuid(), [b"0" * 16, None, b"1" * 16, b"2" * 16])
    yield "json", pa.array(["{}", None, "[]", "1"], pa.json_())
    yield "bool8", extension(pa.bool8(), [0, 1, None, 1])
    yield "opaque", extension(pa.opaque(pa.int32(), "kind", "vendor"), [1, None, 2, 3])
    yield "tensor", extension(
        pa.fixed_shape_tensor(pa.int32(), [2, 2], dim_names=["x", "y"], permutation=[1, 0]),
        [[1, 2, 3, 4]] * 4)
    yield "custom", extension(Celsius("Oslo"), [3.5, None, -1.0, 0.0])
    yield "custom_nested", extension(Labels(), [["a"], None, ["b", "a"], []])
    yield "list_of_uuid", pa.ListArray.from_arrays(
        pa.array([0, 1, 1, 2, 2], pa.int32()), extension(pa.uuid(), [b"0" * 16, None]))
    # No dictionary of an extension type: pyarrow writes such a schema to IPC,
    # and cannot read it itself.


def columns():
    """Pairs of a unique name and an array of four rows."""
    yield "null", pa.nulls(4)
    yield "bool", pa.array([True, None, False, True])
    for group in (numbers, texts, times, lists, structs, dictionaries, runs, unions, extensions):
        yield from group()


def table_of(pairs):
    """Three record batches, one of them a slice, with metadata on everything."""
    pairs = list(pairs)
    fields = [pa.field(name, array.type, metadata={b"of": name.encode()})
              for name, array in pairs]
    schema = pa.schema(fields, metadata={b"who": b"\x00\x01", b"text": "\u00e4".encode()})
    once = pa.Table.from_arrays([array for _, array in pairs], schema=schema)
    return pa.concat_tables([once, once.slice(1, 2), once])
