"""The client's side of integration scenarios, as the Arrow project's testers
play it: flight_integration.py SCENARIO PORT. Ends badly where a value is not
the one expected."""

import sys
from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.flight as flight


def connect(port, **options):
    return flight.connect(f"grpc://localhost:{port}", **options)


def ask(client, command):
    return client.get_flight_info(flight.FlightDescriptor.for_command(command))


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def fails(kind, call, *parts):
    try:
        call()
    except kind as error:
        for part in parts:
            assert part in str(error), f"no {part!r} in {error}"
    else:
        raise AssertionError(f"no {kind.__name__}")


class Handshake(flight.ClientAuthHandler):
    def __init__(self, name, password):
        super().__init__()
        self.credentials = flight.BasicAuth(name, password)
        self.token = None

    def authenticate(self, outgoing, incoming):
        outgoing.write(self.credentials.serialize())
        self.token = incoming.read()

    def get_token(self):
        return self.token


def auth(port):
    def who(client, *options):
        return [one.body.to_pybytes() for one in client.do_action(flight.Action("", b""), *options)]

    refused = flight.FlightUnauthenticatedError
    client = connect(port)
    fails(refused, lambda: who(client), "there is no token")
    fails(refused, lambda: client.list_actions(), "there is no token")
    fails(refused, lambda: client.authenticate(Handshake("arrow", "no")), "wrong")
    client = connect(port)
    client.authenticate(Handshake("arrow", "flight"))
    equal(who(client), [b"arrow"])

    client = connect(port)
    fails(refused, lambda: client.authenticate_basic_token("arrow", "no"), "wrong")
    fails(refused, lambda: client.authenticate_basic_token("no", "flight"), "wrong")
    header = client.authenticate_basic_token("arrow", "flight")
    assert header[0] == b"authorization" and header[1].startswith(b"Bearer "), header
    equal(who(client, flight.FlightCallOptions(headers=[header])), [b"arrow"])
    other = (b"authorization", b"Bearer " + b"0" * 64)
    fails(refused, lambda: who(client, flight.FlightCallOptions(headers=[other])), "of no login")


def middleware(port):
    received = []

    class Factory(flight.ClientMiddlewareFactory):
        def start_call(self, info):
            return Middleware()

    class Middleware(flight.ClientMiddleware):
        def sending_headers(self):
            return {"x-middleware": "expected value"}

        def received_headers(self, headers):
            received.extend(headers.get("x-middleware", []))

    client = connect(port, middleware=[Factory()])
    fails(pa.ArrowInvalid, lambda: ask(client, b""))
    equal(received, ["expected value"])
    received.clear()
    info = ask(client, b"success")
    equal(received, ["expected value"])
    equal((info.schema, info.total_records, info.total_bytes), (pa.schema([]), -1, -1))
    (endpoint,) = info.endpoints
    equal(endpoint.ticket.ticket, b"foo")
    equal([one.uri for one in endpoint.locations], [b"grpc+tcp://localhost:10010"])


def read(client, info):
    for endpoint in info.endpoints:
        equal(endpoint.locations, [])
    return pa.concat_tables(client.do_get(one.ticket).read_all() for one in info.endpoints)


def ordered(port):
    client = connect(port)
    info = ask(client, b"ordered")
    assert info.ordered
    numbers = pa.array([1, 2, 3, 10, 20, 30, 100, 200, 300], pa.int32())
    equal(read(client, info), pa.table({"number": numbers}))
    equal(info.descriptor, flight.FlightDescriptor.for_command(b"ordered"))
    info = ask(client, b"\xff\0")
    assert not info.ordered
    equal(info.descriptor, flight.FlightDescriptor.for_command(b"\xff\0"))
    fails(pa.ArrowInvalid, lambda: client.do_get(flight.Ticket(b"\xff")).read_all())


def expiration_do_get(port):
    client = connect(port)
    info = ask(client, b"expiration")
    first, second, third = info.endpoints
    equal(first.expiration_time, None)
    left = second.expiration_time.as_py() - datetime.now(timezone.utc)
    assert timedelta() < left <= timedelta(seconds=5), left
    equal(third.expiration_time.as_py() - second.expiration_time.as_py(), timedelta(seconds=1))
    equal(read(client, info), pa.table({"number": pa.array([0, 1, 2], pa.uint32())}))
    fails(pa.ArrowInvalid, lambda: client.do_get(first.ticket).read_all(), "once")
    equal(client.do_get(third.ticket).read_all()["number"].to_pylist(), [2])


def expiration_list_actions(port):
    names = sorted(one.type for one in connect(port).list_actions())
    equal(names, ["CancelFlightInfo", "RenewFlightEndpoint"])


def app_metadata(port):
    client = connect(port)
    info = ask(client, b"foobar")
    equal(info.app_metadata, b"foobar")
    (endpoint,) = info.endpoints
    equal(endpoint.app_metadata, b"foobar")
    path = flight.FlightDescriptor.for_path("foobar")
    fails(pa.ArrowInvalid, lambda: client.get_flight_info(path), "send a command")


def reuse(port):
    client = connect(port)
    (endpoint,) = ask(client, b"reuse").endpoints
    equal([one.uri for one in endpoint.locations], [b"arrow-flight-reuse-connection://?"])
    equal(client.do_get(endpoint.ticket).read_all().num_rows, 0)


def echo(port):
    client = connect(port)
    schema = pa.schema([pa.field("x", pa.int32(), nullable=False)], {"made": "here"})
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(b"echo"))
    writer.begin(schema)
    for number in range(4):
        batch = pa.record_batch([pa.array(range(number, number + 10), pa.int32())], schema=schema)
        metadata = str(number).encode() if number % 2 == 0 else None
        if metadata:
            writer.write_with_metadata(batch, metadata)
        else:
            writer.write_batch(batch)
        # What was sent is back before the next is sent.
        chunk = reader.read_chunk()
        equal(chunk.data, batch)
        equal(chunk.app_metadata and chunk.app_metadata.to_pybytes(), metadata)
        assert reader.schema.equals(schema, check_metadata=True), reader.schema
    writer.done_writing()
    fails(StopIteration, reader.read_chunk)
    writer.close()
    writer, reader = client.do_exchange(flight.FlightDescriptor.for_command(b"other"))
    fails(pa.ArrowInvalid, reader.read_chunk, "echo")


def any_data():
    """A few batches of types of every kind; dictionaries grow and change."""
    fields = {
        "bool": (pa.bool_(), [True, None]),
        "decimal": (pa.decimal128(20, 3), [None, 7]),
        "time": (pa.timestamp("us", "Europe/Berlin"), [0, None]),
        "text": (pa.string_view(), ["short", "long enough to lie beside its view"]),
        "bytes": (pa.binary(3), [b"abc", None]),
        "list": (pa.list_(pa.struct([("a", pa.int16()), ("b", pa.string())])), [[{"a": 1}], []]),
        "map": (pa.map_(pa.string(), pa.int64()), [[("k", 1)], None]),
        "null": (pa.null(), [None, None]),
        "runs": (pa.run_end_encoded(pa.int32(), pa.string()), None),
        "words": (pa.dictionary(pa.int8(), pa.string()), None),
    }
    schema = pa.schema(
        [pa.field(name, kind, metadata={"n": name}) for name, (kind, _) in fields.items()],
        {"made": "here"},
    )
    fixed = [pa.array(values, kind) for kind, values in fields.values() if values]
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array(["r"]))
    for words in [["a"], ["a", "b"], ["a", "b", "c"], ["z", "y"]]:
        keys = pa.array([len(words) - 1, None], pa.int8())
        yield pa.record_batch(
            [*fixed, runs, pa.DictionaryArray.from_arrays(keys, words)], schema=schema
        )


def data(port):
    for number, deltas in enumerate([True, False]):
        client = connect(port)
        batches = list(any_data())
        path = flight.FlightDescriptor.for_path(f"any data {number}")
        fails(pa.ArrowKeyError, lambda: client.get_flight_info(path), "put it first")
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
        schema = batches[0].schema
        writer, results = client.do_put(path, schema, flight.FlightCallOptions(write_options=options))
        for index, batch in enumerate(batches):
            writer.write_with_metadata(batch, str(index).encode())
            # Acknowledged before the next one is sent.
            equal(results.read().to_pybytes(), str(index).encode())
        writer.done_writing()
        equal(results.read(), None)
        writer.close()

        info = client.get_flight_info(path)
        equal((info.descriptor, info.total_records), (path, 2 * len(batches)))
        assert info.schema.equals(schema, check_metadata=True), info.schema
        (endpoint,) = info.endpoints
        (location,) = endpoint.locations
        reader = flight.connect(location).do_get(endpoint.ticket)
        assert reader.schema.equals(schema, check_metadata=True), reader.schema
        for index, batch in enumerate(batches):
            chunk = reader.read_chunk()
            equal(chunk.app_metadata.to_pybytes(), str(index).encode())
            chunk.data.validate(full=True)
            equal(chunk.data.to_pylist(), batch.to_pylist())
        fails(StopIteration, reader.read_chunk)


if __name__ == "__main__":
    scenarios = {
        "app_metadata_flight_info_endpoint": app_metadata,
        "auth:basic_proto": auth,
        "data": data,
        "do_exchange:echo": echo,
        "expiration_time:do_get": expiration_do_get,
        "expiration_time:list_actions": expiration_list_actions,
        "location:reuse_connection": reuse,
        "middleware": middleware,
        "ordered": ordered,
    }
    scenarios[sys.argv[1]](int(sys.argv[2]))
    print(f"{sys.argv[1]}: as expected")
