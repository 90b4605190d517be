"""What a source of one's own in Python is made with. It needs pyarrow and nothing else.

The control plane starts it and says in the file that SHEAF_ASSIGNMENT names which place of the
pipeline it takes. It registers there, beats, answers readers by one DoExchange per stream, and
keeps every batch until all of them have acknowledged it. See ticker.py.
"""

import collections
import http.server
import json
import os
import pathlib
import queue
import resource
import secrets
import signal
import struct
import sys
import threading
import time

import pyarrow as pa
import pyarrow.flight as flight

KEPT = 64  # Batches that wait for an acknowledgement before no more are made.
SHOWN = 16  # Batches that wait for one who looks at an edge; those beyond are missed.
DRAIN = 10  # Seconds in which readers acknowledge the last batches after a stop.


class Stream:
    """What one reader has not acknowledged. Sequences begin with 1."""

    def __init__(self):
        self.changed = threading.Condition()
        self.kept, self.last, self.acknowledged, self.end = {}, 0, 0, None
        self.readers, self.connected = 0, False
        self.sent, self.rows, self.bytes, self.credits = 0, 0, 0, 0

    def went(self, at, batch):
        with self.changed:
            if at > self.sent:
                self.sent, self.rows, self.bytes = at, self.rows + batch.num_rows, self.bytes + batch.nbytes

    def stats(self):
        with self.changed:
            return {
                "connected": self.connected,
                "finished": self.end is not None and self.acknowledged >= self.end,
                "rows": self.rows,
                "bytes": self.bytes,
                "credits": self.credits,
                "waiting": self.last - self.sent,
                "unacknowledged": len(self.kept),
                "memoryBytes": sum(batch.nbytes for batch in self.kept.values()),
            }

    def put(self, batch):
        with self.changed:
            self.last += 1
            self.kept[self.last] = batch
            self.changed.notify_all()
            return self.last

    def heard(self, acknowledged):
        with self.changed:
            for sequence in range(self.acknowledged + 1, acknowledged + 1):
                self.kept.pop(sequence, None)
            self.acknowledged = max(self.acknowledged, acknowledged)
            self.changed.notify_all()


class Taps:
    """Those who look at an edge, as `sheafctl tap` does. Nothing waits for them."""

    def __init__(self):
        self.lock, self.open = threading.Lock(), []

    def show(self, batch):
        with self.lock:
            for tap in self.open:
                try:
                    tap["batches"].put_nowait((batch, dict(tap["missed"])))
                except queue.Full:
                    tap["missed"]["batches"] += 1
                    tap["missed"]["rows"] += batch.num_rows

    def batches(self, context):
        tap = {"batches": queue.Queue(SHOWN), "missed": {"batches": 0, "rows": 0}}
        with self.lock:
            self.open.append(tap)
        try:
            while True:
                try:
                    batch, missed = tap["batches"].get(timeout=1)
                    yield batch, json.dumps(missed).encode()
                except queue.Empty:
                    if context.is_cancelled():
                        return
        finally:
            with self.lock:
                self.open.remove(tap)


class Server(flight.FlightServerBase):
    """Answers the readers of all streams, and those who look at an edge."""

    def __init__(self, location, streams, token, schema):
        super().__init__(location, middleware={"token": Check(token)})
        self.streams, self.schema, self.epoch = streams, schema, secrets.randbits(62) | 1
        self.taps = {edge: Taps() for edge, _ in streams}

    def do_get(self, context, ticket):
        kind, _, edge = ticket.ticket.decode().partition("/")
        if kind != "taps" or edge not in self.taps:
            raise flight.FlightServerError(f"there is no {ticket.ticket.decode()} here")
        return flight.GeneratorStream(self.schema, self.taps[edge].batches(context))

    def do_exchange(self, context, descriptor, reader, writer):
        _, edge, _, to = [part.decode() for part in descriptor.path]
        stream = self.streams[edge, int(to)]
        hello = json.loads(reader.read_chunk().app_metadata.to_pybytes())
        is_same = hello.get("epoch") == self.epoch
        call = {"credits": hello["credits"], "over": False}
        stream.heard(hello.get("acknowledged", 0) if is_same else 0)
        with stream.changed:
            stream.readers += 1
            mine, stream.connected = stream.readers, True

        def listen():
            try:
                while True:
                    said = json.loads(reader.read_chunk().app_metadata.to_pybytes())
                    call["credits"] = max(call["credits"], said["credits"])
                    stream.heard(said.get("acknowledged", 0))
            except (StopIteration, pa.ArrowException):
                with stream.changed:
                    call["over"] = True
                    stream.connected = stream.readers > mine and stream.connected
                    stream.changed.notify_all()

        threading.Thread(target=listen, daemon=True).start()
        writer.write_metadata(json.dumps({"version": 1, "epoch": self.epoch}).encode())
        writer.begin(self.schema)
        at = max(hello.get("last", 0) if is_same else 0, stream.acknowledged)
        sent, has_ended = 0, False
        while True:
            with stream.changed:
                # A reader that ends its half, or another one in its place, ends the call.
                stream.changed.wait_for(
                    lambda: call["over"]
                    or stream.readers > mine
                    or (sent < call["credits"] and at < stream.last)
                    or (not has_ended and stream.end is not None and at == stream.last)
                )
                if call["over"] or stream.readers > mine:
                    return
                batch = stream.kept.get(at + 1) if at < stream.last else None
                stream.credits = call["credits"] - sent - (at < stream.last)
            if at < stream.last:
                at, sent = at + 1, sent + 1
                if batch is not None:
                    writer.write_with_metadata(batch, struct.pack("<Q", at))
                    stream.went(at, batch)
            else:
                has_ended = True
                writer.write_metadata(json.dumps({"end": stream.end}).encode())


class Check(flight.ServerMiddlewareFactory):
    """Lets only components of this run in."""

    def __init__(self, token):
        self.token = token

    def start_call(self, info, headers):
        shown = headers.get("sheaf-data-token", [""])[0]
        if not secrets.compare_digest(shown, self.token):
            raise flight.FlightUnauthenticatedError("not the data token of this run")


class Control:
    """The control plane, and the place that is taken there."""

    def __init__(self, assignment, address, health_port):
        self.client = flight.connect(assignment["control"].replace("grpc://", "grpc+tcp://"))
        self.me = {"id": assignment["place"], "incarnation": secrets.token_hex(16)}
        self.progress, self.sequence = 0, 0
        place = {"type": "source", "token": assignment["token"], "address": address}
        self.place = self.me | place | {"healthEndpoint": f":{health_port}", "name": assignment["instance"]}
        self.run = self.register()

    def call(self, action, body):
        results = self.client.do_action(flight.Action(action, json.dumps(body).encode()))
        return json.loads(next(results).body.to_pybytes())

    def register(self):
        answer = self.call("RegisterComponent", self.place)
        self.every = answer["heartbeatMs"] / 1000
        return answer["run"]

    def beat(self):
        """Also while the control plane is away; one that was started again is told anew."""
        while True:
            time.sleep(self.every)
            self.sequence += 1
            beat = {"sequence": self.sequence, "progress": self.progress}
            try:
                if self.call("Heartbeat", self.me | beat)["run"] != self.run:
                    self.run = self.register()
            except flight.FlightUnavailableError as error:
                print(f"the control plane does not answer: {error}", file=sys.stderr)
            except pa.ArrowException as error:
                print(f"the place is lost: {error}", file=sys.stderr)
                os._exit(1)


class Kept:
    """How many batches every reader has acknowledged, of this pass over the data: the next
    process goes on there, also in a run after one that was broken off."""

    def __init__(self, assignment):
        self.path = pathlib.Path(assignment["stateDir"]) / "acknowledged.json"
        self.of = assignment["pass"]
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.first = self.last = kept["batches"] if kept.get("pass") == self.of else 0

    def write(self, batches):
        if batches > self.last:
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps({"pass": self.of, "batches": batches}))
            new.replace(self.path)
            self.last = batches


class Health(http.server.BaseHTTPRequestHandler):
    """`/health`, and at `/stats` what `sheafctl top` shows."""

    def do_GET(self):
        told = {"/health": {"status": "healthy"}, "/stats": self.server.stats()}.get(self.path)
        body = json.dumps(told).encode()
        self.send_response(404 if told is None else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Source:
    """A source at its place. `make(config, first)` gives its batches from the number `first` on;
    it may give None where there is none yet."""

    def __init__(self, schema, make):
        with open(os.environ["SHEAF_ASSIGNMENT"], encoding="utf-8") as file:
            self.assignment = assignment = json.load(file)
        self.stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopped.set())
        edges = [output["edge"] for output in assignment["outputs"]]
        for edge in edges:
            if edge["durable"] or "hash" in edge["partitioning"]:
                print(f"edge {edge['id']}: this source has no durable edges and no hash", file=sys.stderr)
                sys.exit(2)
        mine = [(edge, one) for edge in edges for one in edge["streams"] if one["from"] == assignment["index"]]
        self.streams = {(edge["id"], one["to"]): Stream() for edge, one in mine}
        self.in_turn = {edge["id"]: edge["partitioning"] == "round-robin" for edge in edges}
        # Of each batch that is not acknowledged: its streams, and its sequence in each.
        self.waiting = collections.deque()
        self.acknowledged = 0
        self.kept = Kept(assignment)
        self.batches = make(assignment["definition"].get("config") or {}, self.kept.first)
        location = f"grpc://{assignment['listen']}"
        self.server = Server(location, self.streams, assignment["dataToken"], schema)
        host, _, port = assignment["healthListen"].rpartition(":")
        health = http.server.ThreadingHTTPServer((host, int(port)), Health)
        health.stats = self.stats
        threading.Thread(target=health.serve_forever, daemon=True).start()
        host = assignment.get("advertiseHost") or assignment["listen"].rpartition(":")[0]
        address = f"grpc://{host}:{self.server.port}"
        self.control = Control(assignment, address, health.server_port)
        threading.Thread(target=self.control.beat, daemon=True).start()

    def stats(self):
        outputs = [
            {"edge": edge, "streams": [one.stats() for (of, _), one in self.streams.items() if of == edge]}
            for edge in self.server.taps
        ]
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {"residentBytes": resident, "outputs": outputs}

    def send(self, batch, made):
        """To one reader of an edge in turn, or to all of them."""
        places = []
        for edge, in_turn in self.in_turn.items():
            streams = [one for (of, _), one in self.streams.items() if of == edge]
            if in_turn:
                streams = streams[made % len(streams) :][:1]
            places += [(one, one.put(batch)) for one in streams]
            self.server.taps[edge].show(batch)
        self.waiting.append(places)

    def round(self):
        """It is this loop that lives, and not only its process."""
        self.control.progress += 1
        while self.waiting and all(one.acknowledged >= at for one, at in self.waiting[0]):
            self.waiting.popleft()
            self.acknowledged += 1
        self.kept.write(self.kept.first + self.acknowledged)
        time.sleep(0.001)

    def run(self):
        made = 0
        for batch in self.batches:
            if batch is not None:
                self.send(batch, made)
                made += 1
            self.round()
            while any(len(one.kept) >= KEPT for one in self.streams.values()) and not self.stopped.is_set():
                self.round()
            if self.stopped.is_set():
                break
        for stream in self.streams.values():
            with stream.changed:
                stream.end = None if self.stopped.is_set() else stream.last + 1
                stream.changed.notify_all()
        deadline = time.monotonic() + DRAIN
        while any(one.acknowledged < (one.end or one.last) for one in self.streams.values()):
            if self.stopped.is_set() and time.monotonic() > deadline:
                break
            self.round()
        self.round()
        reason = f"done with pass {self.assignment['pass']}"
        if self.stopped.is_set():
            # Another process in this place gives again what was not acknowledged.
            reason = "stopped before all was acknowledged" if self.waiting else "stopped"
        self.control.call("Deregister", self.control.me | {"reason": reason})
        sys.stdout.flush()
        os._exit(0)
