"""A worker in Python: claims batches, computes, settles. Nothing but pyarrow.

    python pyarrow_worker.py grpc://localhost:8080 OUT_FOLDER [--until-idle]

Every batch becomes one Parquet file. The file is written aside and then linked
into place, which succeeds once; a second attempt finds it there and settles.
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
    action = flight.Action(name, json.dumps(body).encode())
    return json.loads(next(client.do_action(action)).body.to_pybytes())


class Heartbeat(threading.Thread):
    """Extends one lease until told to stop; `lost` says that the work is in vain."""

    def __init__(self, client, lease):
        super().__init__(daemon=True)
        self.client, self.lease = client, lease
        self.over, self.lost = threading.Event(), False

    def beat(self):
        held = {"batch_id": self.lease["batch_id"], "fence": self.lease["fence"]}
        answer = act(self.client, "Extend", leases=[held])["leases"][0]
        self.lost = answer["verdict"] != "applied" or answer.get("cancelled", False)
        return not self.lost

    def run(self):
        while not self.over.wait(LEASE_MS / 3000):
            if not self.beat():
                return


def work(client, lease, folder):
    """One attempt: read, compute, write aside, prove the lease, link into place."""
    name = f"part-{lease['batch_id']}.parquet"
    aside = os.path.join(folder, f"_{lease['batch_id']}.{lease['fence']}")
    heart = Heartbeat(client, lease)
    heart.start()
    try:
        table = client.do_get(flight.Ticket(lease["ticket"])).read_all()
        pq.write_table(table, aside)  # here goes what you do with the table
        if not heart.beat():
            return None
        try:
            os.link(aside, os.path.join(folder, name))
        except FileExistsError:
            pass  # an earlier attempt got this far
        return {"result": "completed"}
    except Exception as error:  # the batch's own policy decides what follows
        return {"result": "failed", "error": str(error)}
    finally:
        heart.over.set()
        if os.path.exists(aside):
            os.unlink(aside)


def main():
    client = flight.connect(sys.argv[1])
    folder, until_idle = sys.argv[2], "--until-idle" in sys.argv
    worker = f"python-{os.getpid()}-{uuid.uuid4()}"
    done = 0
    while True:
        claim = act(client, "Claim", worker=worker, max=4, max_bytes=64 << 20,
                    wait_ms=1_000 if until_idle else 20_000, lease_ms=LEASE_MS)
        if until_idle and not claim["leases"]:
            break
        for lease in claim["leases"]:
            outcome = work(client, lease, folder)
            if outcome is not None:
                outcome.update(batch_id=lease["batch_id"], fence=lease["fence"])
                act(client, "Settle", outcomes=[outcome])
                done += 1
    print("settled", done)


if __name__ == "__main__":
    main()
