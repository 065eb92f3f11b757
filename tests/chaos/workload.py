"""Clients that keep books: publishers with confirms, consumers with manual acknowledgements. They come back whatever is
done to the cluster, at any node that answers, and write down everything in a `History`.
"""

import random
import struct
import threading
import time
from collections import deque

import pika
import pika.exceptions
from kit import amqp

from .history import Delivery, make_body, read_body

LOST = (OSError, amqp.ClosedByPeer, TimeoutError, EOFError, struct.error)
STALL_S = 4.0  # a publisher that hears nothing for so long tries another node
CONNECT_S = 3.0


class Client(threading.Thread):
    """A thread with a connection to one of the nodes, and another when that is lost."""

    def __init__(self, name, nodes, history, seed):
        super().__init__(daemon=True, name=name)
        self.nodes, self.history, self.random = list(nodes), history, random.Random(seed)
        self.stopping = threading.Event()
        self.turn = self.random.randrange(len(self.nodes))
        self.connection = None
        self.node = None

    def pin(self, number):
        """Where to begin."""
        self.turn = number
        return self

    def surprise(self, text):
        self.history.unexpected.append((time.monotonic(), self.name, text))

    def run(self):
        while not self.stopping.is_set():
            self.node = self.nodes[self.turn % len(self.nodes)]
            try:
                self.live()
            except LOST:
                pass
            except amqp.Unexpected as error:
                # An error text of a node in trouble, in place of an answer.
                if "connection.close" not in str(error) and "channel.close" not in str(error):
                    self.surprise(str(error))
            finally:
                if self.connection is not None:
                    self.history.disconnect(self.connection)
                    self.connection = None
            if not self.stopping.is_set():
                self.turn += 1
                self.stopping.wait(0.1)

    def open(self):
        client = amqp.Client(*self.node.address, timeout_s=CONNECT_S)
        client.login()
        client.channel(1)
        client.timeout_s = 15.0
        return client


class Publisher(Client):
    """Numbered messages to one queue, at a steady rate, a window of them unconfirmed."""

    def __init__(self, number, queue, nodes, history, seed, rate=60.0, window=60, sizes=(0, 2000), large=0.0):
        super().__init__(f"publisher {number}", nodes, history, seed)
        self.number, self.queue, self.rate, self.window = number, queue, rate, window
        self.sizes, self.large, self.next = sizes, large, 0

    def body(self):
        size = self.random.randint(*self.sizes)
        if self.random.random() < self.large:
            size = 200_000
        return make_body(self.number, self.next, size)

    def live(self):
        client = self.open()
        client.call(1, "confirm.select")
        self.connection = self.history.connect(self.name, self.node.name)
        history, waiting, tag = self.history, {}, 0
        heard, blocked, due = time.monotonic(), False, time.monotonic()
        while not self.stopping.is_set() or waiting:
            now = time.monotonic()
            batch = bytearray()
            due = max(due, now - 1.0)
            while due <= now and len(waiting) < self.window and not self.stopping.is_set():
                due += 1.0 / self.rate
                message, tag = (self.number, self.next), tag + 1
                batch += client.publish_bytes(1, "", self.queue, self.body(), delivery_mode=2)
                self.next += 1
                waiting[tag] = message
                history.published[message] = (now, self.queue, self.connection)
            if batch:
                client.socket.settimeout(STALL_S)
                client.socket.sendall(bytes(batch))
            if not waiting:
                heard = time.monotonic()
            try:
                got = client.recv(timeout_s=min(0.05, max(0.001, due - time.monotonic())))
            except TimeoutError:
                if blocked:
                    heard = time.monotonic()
                if time.monotonic() - heard > (STALL_S if not self.stopping.is_set() else 20.0):
                    client.abort()
                    return
                continue
            heard = time.monotonic()
            if got.name in ("basic.ack", "basic.nack"):
                done = [t for t in waiting if t <= got.delivery_tag] if got.multiple else [got.delivery_tag]
                into = history.confirmed if got.name == "basic.ack" else history.nacked
                for one in done:
                    message = waiting.pop(one, None)
                    if message is None:
                        self.surprise(f"{got} for what is not outstanding")
                    else:
                        into[message] = heard
            elif got.name == "connection.blocked":
                blocked = True
                history.blocked.append((heard, self.name, got.reason))
            elif got.name == "connection.unblocked":
                blocked = False
                history.blocked.append((heard, self.name, None))
            elif got.name in ("connection.close", "channel.close"):
                return
            else:
                self.surprise(f"a publisher got {got}")
        leave(client)


class Consumer(Client):
    """Consumes with manual acknowledgements, after holding each message for a moment; gives some back, and now and then
    drops its connection with all it holds."""

    def __init__(self, name, queue, nodes, history, seed, prefetch=40, hold_s=0.2, gives_back=0.02, drops=0.01):
        super().__init__(name, nodes, history, seed)
        self.queue, self.prefetch, self.hold_s, self.gives_back, self.drops = queue, prefetch, hold_s, gives_back, drops
        self.received = 0

    def live(self):
        client = self.open()
        client.call(1, "basic.qos", prefetch_count=self.prefetch)
        client.consume(1, self.queue)
        number = self.connection = self.history.connect(self.name, self.node.name)
        history, held = self.history, deque()
        asked, unsynced, next_sync = None, False, time.monotonic() + 0.5
        while not self.stopping.is_set() or held:
            now = time.monotonic()
            while held and (held[0][2] <= now or self.stopping.is_set()):
                upto, batch = None, []
                if self.random.random() < self.gives_back and not self.stopping.is_set():
                    tag, message, _ = held.popleft()
                    history.requeues.append((time.monotonic(), message, number))
                    client.send(1, "basic.nack", delivery_tag=tag, requeue=True)
                    continue
                take = self.random.choice((1, 1, 5, 20))
                while held and take and (held[0][2] <= now or self.stopping.is_set()):
                    upto, message, _ = held.popleft()
                    batch.append(message)
                    take -= 1
                sent = time.monotonic()
                # Before it is sent: what is delivered elsewhere after that is not our business any more.
                history.acks.extend((sent, message, number) for message in batch)
                client.send(1, "basic.ack", delivery_tag=upto, multiple=len(batch) > 1)
                unsynced = True
            if asked is None and unsynced and now >= next_sync:
                asked, unsynced = time.monotonic(), False
                client.send(1, "basic.qos", prefetch_count=self.prefetch)
            if self.random.random() < self.drops * 0.02 and not self.stopping.is_set():
                history.disconnect(number)
                client.abort()
                return
            try:
                got = client.recv(timeout_s=0.02)
            except TimeoutError:
                if asked is not None and time.monotonic() - asked > 2 * STALL_S:
                    history.disconnect(number)
                    client.abort()
                    return
                continue
            now = time.monotonic()
            if got.name == "basic.deliver":
                self.received += 1
                message = read_body(got.body)
                if message is None:
                    history.corrupt.append((now, self.queue, self.name))
                    client.send(1, "basic.ack", delivery_tag=got.delivery_tag)
                    continue
                history.deliveries.append(Delivery(now, message, self.queue, self.name, number, got.redelivered))
                held.append((got.delivery_tag, message, now + self.random.random() * self.hold_s))
            elif got.name == "basic.qos-ok":
                history.synced.append((asked, now, number))
                asked, next_sync = None, now + 0.5
            elif got.name in ("basic.cancel", "connection.close", "channel.close"):
                return
            else:
                self.surprise(f"a consumer got {got}")
        history.disconnect(number)
        leave(client)


class PikaPublisher(Client):
    """The same with pika's blocking connection: one message at a time."""

    def __init__(self, number, queue, nodes, history, seed):
        super().__init__(f"pika publisher {number}", nodes, history, seed)
        self.number, self.queue, self.next = number, queue, 0

    def live(self):
        try:
            self._live()
        except pika.exceptions.AMQPError as error:
            raise EOFError(str(error)) from error

    def _live(self):
        client = pika.BlockingConnection(pika_parameters(self.node))
        channel = client.channel()
        channel.confirm_delivery()
        self.connection = self.history.connect(self.name, self.node.name)
        history = self.history
        while not self.stopping.is_set():
            message = self.number, self.next
            self.next += 1
            body = make_body(*message, self.random.randint(0, 500))
            history.published[message] = (time.monotonic(), self.queue, self.connection)
            try:
                channel.basic_publish("", self.queue, body, pika.BasicProperties(delivery_mode=2))
                history.confirmed[message] = time.monotonic()
            except pika.exceptions.NackError:
                history.nacked[message] = time.monotonic()
            client.sleep(0.05)
        client.close()


class PikaConsumer(Client):
    """Consumes with pika, acknowledging each message at once."""

    def __init__(self, name, queue, nodes, history, seed):
        super().__init__(name, nodes, history, seed)
        self.queue = queue

    def live(self):
        try:
            self._live()
        except pika.exceptions.AMQPError as error:
            raise EOFError(str(error)) from error

    def _live(self):
        client = pika.BlockingConnection(pika_parameters(self.node))
        channel = client.channel()
        channel.basic_qos(prefetch_count=10)
        number = self.connection = self.history.connect(self.name, self.node.name)
        history = self.history
        for method, _, body in channel.consume(self.queue, inactivity_timeout=0.2):
            now = time.monotonic()
            if method is not None:
                message = read_body(body)
                if message is None:
                    history.corrupt.append((now, self.queue, self.name))
                else:
                    history.deliveries.append(
                        Delivery(now, message, self.queue, self.name, number, method.redelivered)
                    )
                    history.acks.append((time.monotonic(), message, number))
                channel.basic_ack(method.delivery_tag)
            if self.stopping.is_set():
                break
        history.disconnect(number)
        channel.cancel()
        client.close()


def leave(client):
    """A clean end, whatever is still on its way."""
    client.send(0, "connection.close", reply_code=200, reply_text="Goodbye")
    while client.recv(timeout_s=10.0).name != "connection.close-ok":
        pass
    client.abort()


def pika_parameters(node):
    return pika.ConnectionParameters(
        *node.address, credentials=pika.PlainCredentials("guest", "guest"), heartbeat=5,
        socket_timeout=CONNECT_S, stack_timeout=2 * CONNECT_S, blocked_connection_timeout=120,
    )  # fmt: skip


def drain(queue, nodes, history, quiet_s=2.0, timeout_s=120.0):
    """Takes what is left in a queue with a new consumer. Returns the number of messages that the queue still counts."""
    deadline, last = time.monotonic() + timeout_s, None
    for node in nodes * 3:
        try:
            client = amqp.Client(*node.address, timeout_s=15.0)
            client.login()
            client.channel(1)
            client.consume(1, queue)
            number = history.connect(history.drain, node.name)
            while time.monotonic() < deadline:
                try:
                    got = client.recv(timeout_s=quiet_s)
                except TimeoutError:
                    break
                if got.name != "basic.deliver":
                    history.unexpected.append((time.monotonic(), history.drain, f"got {got}"))
                    break
                now, message = time.monotonic(), read_body(got.body)
                if message is None:
                    history.corrupt.append((now, queue, history.drain))
                else:
                    history.deliveries.append(Delivery(now, message, queue, history.drain, number, got.redelivered))
                    history.acks.append((now, message, number))
                client.send(1, "basic.ack", delivery_tag=got.delivery_tag)
            asked = time.monotonic()
            left = client.declare(1, queue, durable=True, passive=True)
            history.synced.append((asked, time.monotonic(), number))
            history.disconnect(number)
            leave(client)
            return left.message_count
        except LOST as error:
            last = error
    raise last or OSError("no node to drain from")
