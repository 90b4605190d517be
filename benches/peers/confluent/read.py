"""Reads a topic with confluent-kafka and converts it to Arrow, as a user would.

    read.py WAY BROKER TOPIC PARTITIONS COUNT BATCH [SCHEMA]

Prints the time from the first message to the last columns, and the CPU that
the process used between.
"""

import json
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from ways import WAYS

# Seconds that the broker may give nothing.
PATIENCE = 30


def messages(consumer, most):
    got = consumer.consume(num_messages=most, timeout=PATIENCE)
    for message in got:
        if message.error():
            sys.exit(f"the broker says: {message.error()}")
    if not got:
        sys.exit(f"no message in {PATIENCE} seconds")
    return [message.value() for message in got]


def main():
    way, broker, topic, partitions, count, batch = sys.argv[1:7]
    convert = WAYS[way](*sys.argv[7:] or [None])
    count, batch = int(count), int(batch)
    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": way,
        "enable.auto.commit": False,
        # As the gateway has it.
        "queued.max.messages.kbytes": 16384,
        "fetch.message.max.bytes": 4194304,
    })
    consumer.assign([TopicPartition(topic, one, OFFSET_BEGINNING) for one in range(int(partitions))])
    values = messages(consumer, 1)
    start, before = time.perf_counter(), time.process_time()
    done, size, rows = 0, 0, 0
    while True:
        rows += convert(values).num_rows
        done += len(values)
        size += sum(map(len, values))
        if done >= count:
            break
        values = messages(consumer, min(batch, count - done))
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    if rows != count:
        sys.exit(f"{rows} rows came of {count} messages")
    print(json.dumps({"messages": rows, "bytes": size, "seconds": seconds, "cpu_seconds": cpu}))


main()
