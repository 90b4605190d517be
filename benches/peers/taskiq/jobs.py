"""taskiq on Valkey, as a peer of the coordinator: one worker, one client.

    python jobs.py worker --url redis://… --broker stream|list --jobs N [--each]
    python jobs.py client --url redis://… --broker stream|list --jobs N --callers C
    python jobs.py pickup --url redis://… --broker stream|list --jobs N --pause-ms P

Each prints one line of JSON at its end; the worker prints `ready` when it
listens. Times are nanoseconds of the system's clock, which all processes share.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time

import uvloop
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisStreamBroker

CONCURRENCY = 100


def say(**values):
    print(json.dumps(values), flush=True)


def make_broker(arguments):
    # Stream: consumer group, acknowledged after the job. List: popped, lost if
    # the worker dies. Neither stores results, as nobody asks for them.
    if arguments.broker == "list":
        return ListQueueBroker(arguments.url, queue_name="list")
    # From the beginning of the stream: jobs may be sent before a worker listens.
    return RedisStreamBroker(arguments.url, queue_name="stream", consumer_id="0",
                             xread_count=CONCURRENCY)


class Fatal(logging.Handler):
    """The receiver tries again for ever, without a pause; a bench has to end."""

    def emit(self, record):
        print(self.format(record)[:2_000], file=sys.stderr, flush=True)
        os._exit(1)


class Jobs:
    """The job itself, and when it ran."""

    def __init__(self, broker, total, each):
        self.total, self.each, self.started = total, each, []
        self.count, self.over = 0, asyncio.Event()

        async def noop(number: int) -> None:  # taskiq takes functions, not methods
            self.run(number)

        self.task = broker.task(task_name="noop")(noop)

    def run(self, number):
        if self.each:
            self.started.append((number, time.time_ns()))
        self.count += 1
        if self.count == self.total:
            self.done = time.time_ns()
            self.over.set()


async def worker(arguments):
    broker = make_broker(arguments)
    jobs = Jobs(broker, arguments.jobs, arguments.each)
    await broker.startup()
    logging.getLogger("taskiq.receiver").addHandler(Fatal(logging.WARNING))
    receiver = asyncio.create_task(run_receiver_task(
        broker, validate_params=False, max_async_tasks=CONCURRENCY,
        max_prefetch=CONCURRENCY, ack_time=AcknowledgeType.WHEN_EXECUTED))
    print("ready", flush=True)
    over = asyncio.create_task(jobs.over.wait())
    await asyncio.wait({receiver, over}, return_when=asyncio.FIRST_COMPLETED)
    if not jobs.over.is_set():
        raise SystemExit(f"the receiver ended after {jobs.count} of {jobs.total} jobs")
    say(done_ns=jobs.done, started=jobs.started)
    # Nothing is left to be closed that matters; receivers end slowly.
    os._exit(0)


async def client(arguments):
    broker = make_broker(arguments)
    jobs = Jobs(broker, 0, False)
    await broker.startup()
    numbers = iter(range(arguments.jobs))

    async def caller():
        for number in numbers:
            await jobs.task.kiq(number)

    first = time.time_ns()
    await asyncio.gather(*(caller() for _ in range(arguments.callers)))
    say(first_ns=first, last_ns=time.time_ns())
    await broker.shutdown()


async def pickup(arguments):
    broker = make_broker(arguments)
    jobs = Jobs(broker, 0, False)
    await broker.startup()
    sent = []
    for number in range(arguments.jobs):
        await asyncio.sleep(arguments.pause_ms / 1000)  # until the worker is idle again
        sent.append((number, time.time_ns()))
        await jobs.task.kiq(number)
    say(sent=sent)
    await broker.shutdown()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["worker", "client", "pickup"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--broker", choices=["stream", "list"], required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--pause-ms", type=float, default=5)
    parser.add_argument("--each", action="store_true")
    arguments = parser.parse_args()
    uvloop.run({"worker": worker, "client": client, "pickup": pickup}[arguments.role](arguments))


if __name__ == "__main__":
    main()
