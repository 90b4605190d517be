"""A worker in Python: claims batches, computes, settles. Nothing but pyarrow.

    python pyarrow_worker.py grpc://localhost:8080 OUT_FOLDER [--until-idle]

Every batch becomes one Parquet file: written aside, then linked into place,
which succeeds once. Names and footers are those of the workers of `sheaf serve
--sink parquet:OUT_FOLDER`, which may share the folder.
"""

import json
import os
import sys
import threading
import uuid

import pyarrow.flight as flight
import pyarrow.parquet as pq

LEASE_MS = 10_000


def act(client, name, **body):
    """One JSON action: a dict in, a dict out."""
    action = flight.Action(name, json.dumps(body).encode())
    return json.loads(next(client.do_action(action)).body.to_pybytes())


def held(lease):
    return {"batch_id": lease["batch_id"], "fence": lease["fence"]}


class Heartbeat(threading.Thread):
    """Extends the lease until told to stop; then nobody else gets the batch."""

    def __init__(self, client, lease):
        super().__init__(daemon=True)  # a worker that ends takes it along
        self.client, self.lease, self.over = client, lease, threading.Event()

    def beat(self):
        """Whether the lease still stands."""
        answer = act(self.client, "Extend", leases=[held(self.lease)])["leases"][0]
        return answer["verdict"] == "applied" and not answer["cancelled"]

    def run(self):
        while not self.over.wait(LEASE_MS / 3000) and self.beat():
            pass


def write(table, lease, path):
    """The rows, and in the footer the batch and the attempt that made them."""
    footer = {"sink_version": "1", "batch_id": lease["batch_id"], "fence": lease["fence"],
              "rows": str(table.num_rows)}
    with open(path, "wb") as file:
        with pq.ParquetWriter(file, table.schema) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({f"sheaf.{key}": text for key, text in footer.items()})
        file.flush()
        os.fsync(file.fileno())  # what is settled survives a loss of power


def work(client, lease, folder):
    """One attempt: read, compute, write aside, prove the lease, link into place."""
    name = lease["batch_id"].replace(":", "%3A")
    aside = os.path.join(folder, "_tmp", f"{name}.{lease['fence']}")
    heart = Heartbeat(client, lease)
    heart.start()
    try:
        table = client.do_get(flight.Ticket(lease["ticket"])).read_all()
        write(table, lease, aside)  # before that goes what you do with the table
        if not heart.beat():
            return []  # somebody else has the batch by now, and settles it
        try:
            os.link(aside, os.path.join(folder, f"part-{name}.parquet"))
        except FileExistsError:
            pass  # an earlier attempt got this far
        return [{**held(lease), "result": "completed"}]
    except Exception as error:  # the batch's own policy decides what follows
        return [{**held(lease), "result": "failed", "error": str(error)}]
    finally:
        heart.over.set()
        if os.path.exists(aside):
            os.unlink(aside)


def main():
    client = flight.connect(sys.argv[1])
    folder, until_idle = sys.argv[2], "--until-idle" in sys.argv
    os.makedirs(os.path.join(folder, "_tmp"), exist_ok=True)
    want = {"worker": f"python-{os.getpid()}-{uuid.uuid4()}", "lease_ms": LEASE_MS,
            "wait_ms": 1_000 if until_idle else 20_000}
    claim, done = act(client, "Claim", **want), 0
    while claim["leases"] or not until_idle:
        outcomes = [outcome for lease in claim["leases"] for outcome in work(client, lease, folder)]
        done += len(outcomes)
        claim = act(client, "Settle", outcomes=outcomes, claim=want)["claim"]
    print("settled", done)


if __name__ == "__main__":
    main()
