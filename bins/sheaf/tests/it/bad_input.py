"""Sends what is wrong; each refusal has the code and class that are documented.

Usage: bad_input.py grpc://HOST:PORT
The server's limit of memory is 128 MB, so that of a message 32 MB.
"""

import json
import sys

import pyarrow as pa
import pyarrow.flight as flight

INVALID, MISSING = pa.ArrowInvalid, pa.lib.ArrowKeyError
ROWS = pa.record_batch({"a": [1, 2, 3], "b": ["x", None, "z"]})


class Sheaf:
    def __init__(self, address):
        self.client = flight.connect(address)

    def put(self, schema, batches, descriptor=("batches",), headers=()):
        if isinstance(descriptor, tuple):
            descriptor = flight.FlightDescriptor.for_path(*descriptor)
        options = flight.FlightCallOptions(headers=list(headers))
        writer, results = self.client.do_put(descriptor, schema, options)
        with writer:
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
            receipt = results.read()
        return json.loads(receipt.to_pybytes())

    def act(self, name, body):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return [json.loads(answer.body.to_pybytes())
                for answer in self.client.do_action(flight.Action(name, body))]

    def get(self, ticket):
        return self.client.do_get(flight.Ticket(ticket)).read_all()

    def info(self, descriptor):
        return self.client.get_flight_info(descriptor)


def refused(kind, code, part, call):
    """The call raises exactly this class; its text has the code and says what is wrong."""
    try:
        answer = call()
    except Exception as error:
        text = str(error).split(". gRPC client debug context")[0]
        assert type(error) is kind, f"{type(error)} for {text}"
        assert f"message: {code}: " in text, f"{code} is not in {text}"
        assert part in text, f"{part} is not in {text}"
        assert "\n" not in text, text
        return
    raise AssertionError(f"{code} {part!r} was not refused: {answer}")


def tickets(sheaf, batch_id):
    this = f"batches/{batch_id}"
    for ticket, kind, code, part in [
            (b"", INVALID, "invalid_argument", "the ticket is empty"),
            (b"\xff", INVALID, "invalid_argument", "not UTF-8"),
            (b"nothing/x", MISSING, "not_found", "there are: backup, batches"),
            (b"/x", INVALID, "invalid_argument", "NAMESPACE/NAME"),
            (b"batches", INVALID, "invalid_argument", "batches/ID"),
            (b"batches/", INVALID, "invalid_argument", "1 to 200 characters"),
            (b"batches/a b", INVALID, "invalid_argument", "made of letters"),
            (b"batches/../../etc/passwd", INVALID, "invalid_argument", "not '/'"),
            (b"batches/" + b"a" * 201, INVALID, "invalid_argument", "at most 200 characters"),
            (b"b" * 20_000, INVALID, "limit_exceeded", "at most 16384"),
            (b"batches/nobody", MISSING, "not_found", "nobody"),
            (f"{this}/x", INVALID, "invalid_argument", "not '/'"),
            (f"{this}?rows=1", INVALID, "invalid_argument", "none of columns"),
            (f"{this}?columns=nope", INVALID, "invalid_argument", 'no column "nope"'),
            (f"{this}?limit=-1", INVALID, "invalid_argument", 'limit is "-1"'),
            (f"{this}?offset=many", INVALID, "invalid_argument", 'offset is "many"'),
            (f"{this}?limit={2 ** 64}", INVALID, "invalid_argument", "18446744073709551615"),
            (f"{this}?limit=1&limit=2", INVALID, "invalid_argument", "twice"),
    ]:
        refused(kind, code, part, lambda: sheaf.get(ticket))
    # Beyond the end is empty, not wrong.
    assert sheaf.get(f"{this}?offset=10").num_rows == 0


def descriptors(sheaf, batch_id):
    path, command = flight.FlightDescriptor.for_path, flight.FlightDescriptor.for_command
    wrong = [
        (path(), INVALID, "invalid_argument", "NAMESPACE"),
        (path("nothing"), MISSING, "not_found", "there are: backup, batches"),
        (path("batches", ""), INVALID, "invalid_argument", "1 to 200 characters"),
        (path("batches", "a b"), INVALID, "invalid_argument", "made of letters"),
        (path("batches", "a" * 201), INVALID, "invalid_argument", "at most 200 characters"),
        (path("batches", batch_id, "x"), INVALID, "invalid_argument", "more than"),
        (path(*["x"] * 17), INVALID, "limit_exceeded", "at most 16"),
        (command(b""), INVALID, "invalid_argument", "the command is empty"),
        (command(b"\xff"), INVALID, "invalid_argument", "not UTF-8"),
    ]
    for descriptor, kind, code, part in wrong:
        refused(kind, code, part, lambda: sheaf.info(descriptor))
        refused(kind, code, part, lambda: sheaf.client.get_schema(descriptor))
        refused(kind, code, part, lambda: sheaf.put(ROWS.schema, [ROWS], descriptor))
    for unknown in (path("batches", "nobody"), command(b"nobody")):
        refused(MISSING, "not_found", "nobody", lambda: sheaf.info(unknown))
    refused(INVALID, "invalid_argument", "add its id", lambda: sheaf.info(path("batches")))
    for criteria in (b"{", b'{"pre": 1}'):
        refused(INVALID, "invalid_argument", "criteria",
                lambda: list(sheaf.client.list_flights(criteria)))


def shapes(sheaf):
    def columns(count):
        return pa.record_batch([pa.array([1])] * count, [f"c{n}" for n in range(count)])

    def nested(depth):
        kind = pa.int8()
        for _ in range(1, depth):
            kind = pa.list_(kind)
        return pa.schema([("deep", kind)])

    def message(megabytes):
        return pa.record_batch([pa.array([b"x" * 1024] * (megabytes * 1024))], ["b"])

    for wide in (4_097, 10_000):
        refused(INVALID, "limit_exceeded", f"has {wide} columns, the limit is 4096",
                lambda: sheaf.put(columns(wide).schema, [columns(wide)]))
    for deep in (65, 100, 500):
        refused(INVALID, "limit_exceeded", "64",
                lambda: sheaf.put(nested(deep), []))
    many = pa.schema([("s", pa.struct([(f"f{n}", pa.int8()) for n in range(70_000)]))])
    refused(INVALID, "limit_exceeded", "65536", lambda: sheaf.put(many, []))
    large = ROWS.schema.with_metadata({"k": "v" * (17 << 20)})
    refused(INVALID, "limit_exceeded", "max_schema_bytes is 16777216",
            lambda: sheaf.put(large, []))
    refused(INVALID, "limit_exceeded", "max_message_bytes is 32000000",
            lambda: sheaf.put(message(1).schema, [message(1), message(40)]))
    raw = ROWS.schema.with_metadata({"k": b"\xff"})
    refused(INVALID, "malformed_data", "UTF-8", lambda: sheaf.put(raw, []))
    # The limits themselves are allowed, and what is allowed can be processed.
    for batch in (columns(4_096), pa.RecordBatch.from_pylist([], nested(64)), message(29)):
        yield sheaf.put(batch.schema, [batch])["batch_id"]


def headers(sheaf):
    for name, value, part in ((b"sheaf-durability", b"paper", "not memory or disk"),
                              (b"sheaf-register", b"maybe", "not true or false")):
        refused(INVALID, "invalid_argument", part,
                lambda: sheaf.put(ROWS.schema, [ROWS], headers=[(name, value)]))


def actions(sheaf, batch_id):
    for name in ("Nope", ""):
        refused(pa.ArrowNotImplementedError, "unimplemented", "RegisterBatch",
                lambda: sheaf.act(name, {}))
    known = {action.type for action in sheaf.client.list_actions()}
    # Flight's own actions have protobuf bodies, one has none.
    flights = {"CancelFlightInfo", "RenewFlightEndpoint", "CloseSession",
               "GetSessionOptions", "SetSessionOptions", "HealthCheck"}
    assert flights < known, known
    for name in sorted(known - flights):
        for body in (b"{", b"\xff", b'{"nope": 1}', b"[" * 100_000, b'"text"', b"1e999"):
            refused(INVALID, "invalid_argument", name, lambda: sheaf.act(name, body))
    for size, limit in ((17 << 20, "max_action_bytes is 16777216"),
                        (33 << 20, "max_action_bytes is 16777216")):
        refused(INVALID, "limit_exceeded", limit, lambda: sheaf.act("GetBatch", b" " * size))
    for name in ("GetBatch", "CancelBatch", "RequeueBatch", "RegisterBatch", "PinBatch"):
        refused(MISSING, "not_found", "nobody", lambda: sheaf.act(name, {"batch_id": "nobody"}))
        refused(INVALID, "invalid_argument", name, lambda: sheaf.act(name, {"batch_id": 5}))
        refused(INVALID, "invalid_argument", "made of letters",
                lambda: sheaf.act(name, {"batch_id": "a b"}))
        refused(INVALID, "invalid_argument", "batch_id", lambda: sheaf.act(name, {}))
    for name, body, code, part in [
            ("Claim", {"worker": "", "max": 1}, "invalid_argument", "worker"),
            ("Claim", {"worker": "w", "max": 0}, "invalid_argument", "1 to 1024"),
            ("Claim", {"worker": "w", "max": 10 ** 9}, "limit_exceeded", "limit of 1024"),
            ("ListBatches", {"state": "lost"}, "invalid_argument", "expected one of"),
            ("ListBatches", {"limit": 10 ** 7}, "limit_exceeded", "limit of 10000"),
            ("ListBatches", {"cursor": "rubbish"}, "invalid_argument", "rubbish"),
            ("PurgeBatches", {"state": "pending"}, "invalid_argument", "not terminal"),
            ("RegisterBatch", {"batch_id": batch_id, "priority": "high"}, "invalid_argument",
             "priority"),
            ("RegisterBatch", {"batch_id": batch_id, "delay_ms": -1}, "invalid_argument",
             "delay_ms"),
            ("RegisterBatch", {"batch_id": batch_id, "retry": {"max_retries": -1}},
             "invalid_argument", "retry.max_retries"),
            ("RegisterBatch", {"batch_id": batch_id, "parents": ["x"] * 20_000},
             "limit_exceeded", "limit of 10000"),
            ("Settle", {"outcomes": [{"batch_id": batch_id, "fence": 1, "result": "done"}]},
             "invalid_argument", "outcomes[0].result"),
    ]:
        refused(INVALID, code, part, lambda: sheaf.act(name, body))
    # A lease that nobody gave is a verdict of its own, not a failed call.
    outcome = {"batch_id": batch_id, "fence": 99, "result": "completed"}
    [answer] = sheaf.act("Settle", {"outcomes": [outcome]})
    assert answer["outcomes"][0]["verdict"] != "ok", answer
    # The refusals above have left the batch alone.
    refused(MISSING, "not_found", batch_id, lambda: sheaf.act("GetBatch", {"batch_id": batch_id}))


def main():
    sheaf = Sheaf(sys.argv[1])
    batch_id = sheaf.put(ROWS.schema, [ROWS])["batch_id"]
    before = sheaf.act("StoreStats", {})[0]["payloads"]
    tickets(sheaf, batch_id)
    descriptors(sheaf, batch_id)
    headers(sheaf)
    actions(sheaf, batch_id)
    assert sheaf.act("StoreStats", {})[0]["payloads"] == before, "something refused was kept"
    sound = list(shapes(sheaf))
    assert sheaf.act("StoreStats", {})[0]["payloads"] == before + len(sound)
    assert sheaf.get(f"batches/{batch_id}").to_batches()[0].equals(ROWS)
    for name in (batch_id, *sound):
        sheaf.act("RegisterBatch", {"batch_id": name})
        print(name)


if __name__ == "__main__":
    main()
