"""A client that has nothing to do with the load: a process of its own, so that the load's Python does not hold it up.

It publishes a small message every 20 ms, waits for the confirm, and consumes on a connection to another node. Once its
standard input ends it prints what it saw as JSON.
"""

import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import amqp  # noqa: E402

PAUSE_S = 0.02
# Served, but after so long that nobody would call it so.
PATIENCE_S = 100.0


def main(publish_to, consume_from, queue):
    stop = threading.Event()
    seen = {"confirmed": 0, "worst_confirm_s": 0.0, "received": 0, "worst_delivery_s": 0.0, "errors": []}
    consumer = amqp.Client(*publish_to, timeout_s=PATIENCE_S).login(heartbeat=0)
    consumer.channel(1)
    consumer.declare(1, queue, durable=True)
    consumer.abort()
    consumer = amqp.Client(*consume_from, timeout_s=PATIENCE_S).login(heartbeat=0)
    consumer.channel(1)
    consumer.consume(1, queue, no_ack=True)

    def consume():
        try:
            while True:
                got = consumer.recv(timeout_s=PATIENCE_S)
                if got.name == "connection.blocked" or got.name == "connection.unblocked":
                    continue
                if got.body == b"end":
                    return
                seen["received"] += 1
                seen["worst_delivery_s"] = max(seen["worst_delivery_s"], time.monotonic() - float(got.body))
        except Exception as error:  # whatever it is, it is a consumer that is not served
            seen["errors"].append(f"consumer: {error!r}")

    def publish():
        publisher = amqp.Client(*publish_to, timeout_s=PATIENCE_S).login(heartbeat=0)
        publisher.confirm_channel(1)
        try:
            last = False
            while not last:
                last = stop.is_set()
                began = time.monotonic()
                publisher.publish(1, "", queue, b"end" if last else repr(began).encode(), delivery_mode=2)
                while (got := publisher.recv(timeout_s=PATIENCE_S)).name != "basic.ack":
                    assert got.name in ("connection.blocked", "connection.unblocked"), got
                seen["confirmed"] += not last
                seen["worst_confirm_s"] = max(seen["worst_confirm_s"], time.monotonic() - began)
                time.sleep(PAUSE_S)
            publisher.close()
        except Exception as error:
            seen["errors"].append(f"publisher: {error!r}")

    threads = [threading.Thread(target=consume, daemon=True), threading.Thread(target=publish, daemon=True)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in reversed(threads):
        thread.join(timeout=PATIENCE_S)
        if thread.is_alive():
            seen["errors"].append("not served to its end")
    print(json.dumps(seen), flush=True)


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


if __name__ == "__main__":
    main(address(sys.argv[1]), address(sys.argv[2]), sys.argv[3])
