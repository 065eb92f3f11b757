"""Publishers and consumers that keep books: what was confirmed, what was received, in which order.

A publisher that has to connect again publishes again what was in doubt. Such a copy is a message of its own, so a body
says which publisher, on which of its connections, and which message; only the broker can make two of the same.
"""

import struct
import threading
import time

from . import amqp

BODY = struct.Struct(">IIQ")  # publisher, its connection, message
LOST = (OSError, amqp.ClosedByPeer, TimeoutError, EOFError)


class Publisher(threading.Thread):
    """Publishes numbered messages with confirms, `window` at a time. Reconnects to any node if `addresses` has several."""

    def __init__(self, number, addresses, queue, count, window=500):
        super().__init__(daemon=True)
        self.number, self.addresses, self.queue, self.count, self.window = number, addresses, queue, count, window
        self.confirmed, self.errors, self.reconnects = set(), [], 0

    def run(self):
        attempt = self.number
        next_message = 0
        unconfirmed = {}
        while len(self.confirmed) < self.count:
            try:
                client = amqp.Client(*self.addresses[attempt % len(self.addresses)], timeout_s=30)
                client.login()
                client.confirm_channel(1)
                # What was in doubt is published again, in its order.
                again = sorted(unconfirmed.values())
                unconfirmed, tag = {}, 0
                while len(self.confirmed) < self.count:
                    batch = bytearray()
                    while len(unconfirmed) < self.window and (again or next_message < self.count):
                        message = again.pop(0) if again else next_message
                        if message == next_message:
                            next_message += 1
                        tag += 1
                        unconfirmed[tag] = message
                        body = BODY.pack(self.number, self.reconnects, message)
                        batch += client.publish_bytes(1, "", self.queue, body, delivery_mode=2)
                    if batch:
                        client.send_bytes(bytes(batch))
                    got = client.recv()
                    if got.name == "basic.ack":
                        last = got.delivery_tag
                        done = [t for t in unconfirmed if t <= last] if got.multiple else [last]
                        for one in done:
                            self.confirmed.add(unconfirmed.pop(one))
                    else:
                        self.errors.append(f"unexpected {got}")
                        return
                client.close()
            except LOST as error:
                if len(self.addresses) == 1:
                    self.errors.append(repr(error))
                    return
                attempt += 1
                self.reconnects += 1
                time.sleep(0.1)


class Consumer(threading.Thread):
    """Consumes with manual acks until told to stop; remembers each delivery."""

    def __init__(self, number, addresses, queue, prefetch=100):
        super().__init__(daemon=True)
        self.number, self.addresses, self.queue, self.prefetch = number, addresses, queue, prefetch
        self.received, self.errors, self.reconnects = [], [], 0
        self.stopping = threading.Event()

    def run(self):
        attempt = self.number
        while not self.stopping.is_set():
            try:
                client = amqp.Client(*self.addresses[attempt % len(self.addresses)], timeout_s=30)
                client.login()
                client.channel(1)
                client.call(1, "basic.qos", prefetch_count=self.prefetch)
                client.consume(1, self.queue)
                unacked = 0
                while not self.stopping.is_set():
                    try:
                        got = client.recv(timeout_s=0.2)
                    except TimeoutError:
                        if unacked:
                            client.send(1, "basic.ack", delivery_tag=0, multiple=True)
                            unacked = 0
                        continue
                    if got.name != "basic.deliver":
                        self.errors.append(f"unexpected {got}")
                        return
                    self.received.append((*BODY.unpack(got.body), got.redelivered, time.monotonic()))
                    unacked += 1
                    if unacked >= self.prefetch // 2:
                        client.send(1, "basic.ack", delivery_tag=got.delivery_tag, multiple=True)
                        unacked = 0
                client.close()
            except LOST as error:
                if len(self.addresses) == 1:
                    self.errors.append(repr(error))
                    return
                attempt += 1
                self.reconnects += 1
                time.sleep(0.1)


def check_books(publishers, consumers):
    """Every confirmed message was received; a second delivery says so; first deliveries keep each publisher's order."""
    confirmed = {(p.number, message) for p in publishers for message in p.confirmed}
    received = {(publisher, message) for c in consumers for publisher, _, message, _, _ in c.received}
    lost = confirmed - received
    assert not lost, f"{len(lost)} confirmed messages were never received, such as {sorted(lost)[:5]}"
    deliveries = sorted((d for c in consumers for d in c.received), key=lambda d: d[4])
    seen, silent = set(), []
    for publisher, connection, message, redelivered, _ in deliveries:
        if (publisher, connection, message) in seen and not redelivered:
            silent.append((publisher, connection, message))
        seen.add((publisher, connection, message))
    assert not silent, f"{len(silent)} messages came twice without `redelivered`, such as {silent[:5]}"
    for consumer in consumers:
        newest = {}
        for publisher, connection, message, redelivered, _ in consumer.received:
            if redelivered:
                continue
            before = newest.get(publisher, (-1, -1))
            assert (connection, message) > before, (
                f"consumer {consumer.number} got {message} of publisher {publisher}'s connection {connection} after {before}"
            )
            newest[publisher] = (connection, message)
