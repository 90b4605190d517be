"""taskiq on Valkey, as a peer of the coordinator there.

    python valkey.py enqueue --port P --jobs J --n N
    python valkey.py work    --port P --jobs J --n N [--each]
    python valkey.py trickle --port P --jobs J --pause-ms T

Each prints one line of JSON at its end; the worker prints `ready` when it
listens. Times are nanoseconds of the system's clock, which all processes share.

Settings, each the best of what was tried on two cores:
- The broker of streams with a consumer group, which acknowledges after the job.
  The one of lists is faster and loses what a killed worker holds.
- 64 calls at once, as it has no call for many; 64 jobs at once. N = 1: one is read
  at once; N = 64: 64 are, and as many prefetched. uvloop and hiredis. No results, no validation.

There is no `hold`: what a dead worker held is claimed by others only when new
jobs come, after `idle_timeout` (10 min), which no running job prolongs.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import time

import uvloop
from redis.asyncio import Redis
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

STREAM = "bench"
GROUP = "taskiq"
AT_ONCE = 64  # Calls, and jobs.
PATIENCE_S = 20  # Without progress for so long, what is missing is lost.
POLL_S = 0.002


def say(**values):
    print(json.dumps(values), flush=True)


def record(number):
    """About 300 bytes, as every side has it."""
    return {
        "number": number,
        "rows": 1000,
        "bytes": 100000,
        "checksum": "0123456789abcdef0123456789abcdef",
        "schema": "fedcba9876543210fedcba9876543210",
        "location": "grpc://127.0.0.1:8080",
        "note": "x" * 120,
    }


class Fatal(logging.Handler):
    """The receiver tries again for ever, without a pause; a bench has to end."""

    def emit(self, record):
        print(self.format(record)[:2_000], file=sys.stderr, flush=True)
        os._exit(1)


class Jobs:
    """The broker, the job itself, and what ran."""

    def __init__(self, arguments):
        # From the beginning of the stream: jobs may be sent before a worker listens.
        self.broker = RedisStreamBroker(
            f"redis://127.0.0.1:{arguments.port}", queue_name=STREAM, consumer_id="0",
            consumer_group_name=GROUP, xread_count=arguments.n)
        self.each, self.started = arguments.each, []
        self.first, self.seen, self.duplicated = 0, set(), 0

        async def noop(record: dict) -> None:  # taskiq takes functions, not methods
            self.run(record["number"])

        self.task = self.broker.task(task_name="noop")(noop)

    def run(self, number):
        at = time.time_ns()
        self.first = self.first or at
        if self.each:
            self.started.append((number, at))
        self.duplicated += number in self.seen
        self.seen.add(number)


async def enqueue(arguments):
    jobs = Jobs(arguments)
    await jobs.broker.startup()
    numbers = iter(range(arguments.jobs))

    async def caller():
        for number in numbers:
            await jobs.task.kiq(record(number))

    first = time.time_ns()
    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    say(jobs=arguments.jobs, seconds=(time.time_ns() - first) / 1e9)
    await jobs.broker.shutdown()


async def done(redis, total, jobs):
    """Until all ran and are acknowledged, or nothing happens any more."""
    count, since = 0, time.monotonic()
    while time.monotonic() - since < PATIENCE_S:
        if len(jobs.seen) != count:
            count, since = len(jobs.seen), time.monotonic()
        if count >= total and not (await redis.xpending(STREAM, GROUP))["pending"]:
            return
        await asyncio.sleep(POLL_S)


async def work(arguments):
    jobs = Jobs(arguments)
    await jobs.broker.startup()
    logging.getLogger("taskiq.receiver").addHandler(Fatal(logging.WARNING))
    receiver = asyncio.create_task(run_receiver_task(
        jobs.broker, validate_params=False, max_async_tasks=AT_ONCE,
        max_prefetch=arguments.n, ack_time=AcknowledgeType.WHEN_EXECUTED))
    print("ready", flush=True)
    over = asyncio.create_task(done(Redis(port=arguments.port), arguments.jobs, jobs))
    await asyncio.wait({receiver, over}, return_when=asyncio.FIRST_COMPLETED)
    if not over.done():
        raise SystemExit(f"the receiver ended after {len(jobs.seen)} of {arguments.jobs} jobs")
    say(jobs=arguments.jobs, seconds=(time.time_ns() - jobs.first) / 1e9,
        lost=arguments.jobs - len(jobs.seen), duplicated=jobs.duplicated, started=jobs.started)
    # Nothing is left to be closed that matters; receivers end slowly.
    os._exit(0)


async def trickle(arguments):
    jobs = Jobs(arguments)
    await jobs.broker.startup()
    sent = []
    for number in range(arguments.jobs):
        await asyncio.sleep(arguments.pause_ms / 1000)  # until the worker is idle again
        sent.append((number, time.time_ns()))
        await jobs.task.kiq(record(number))
    say(sent=sent)
    await jobs.broker.shutdown()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["enqueue", "work", "trickle"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--n", type=int, default=1)
    parser.add_argument("--pause-ms", type=float, default=5)
    parser.add_argument("--each", action="store_true")
    arguments = parser.parse_args()
    uvloop.run({"enqueue": enqueue, "work": work, "trickle": trickle}[arguments.role](arguments))


if __name__ == "__main__":
    main()
