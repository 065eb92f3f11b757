"""Load that does not wait to be served: it writes as long as the socket takes it."""

import contextlib
import select
import socket
import struct
import threading
import time

from kit import amqp

KIB, MIB = 1024, 1024 * 1024


def login(node, timeout_s=100, **options):
    """A client of the node with channel 1 open."""
    client = amqp.Client(*node.address, timeout_s=timeout_s).login(**options)
    client.channel(1)
    return client


def pour(client, data, seconds, reads=False):
    """Sends `data` again and again for so long, and reads and drops what comes, or does not. Returns the octets sent,
    and whether the socket was full for the last second."""
    deadline, sent, view = time.monotonic() + seconds, 0, memoryview(data)
    at, last = 0, time.monotonic()
    client.socket.settimeout(0)
    while (now := time.monotonic()) < deadline:
        inputs = [client.socket] if reads else []
        readable, writable, _ = select.select(inputs, [client.socket], [], 0.1)
        try:
            if readable and not client.socket.recv(MIB):
                break
            if writable:
                count = client.socket.send(view[at : at + MIB])
                sent, at, last = sent + count, (at + count) % len(view), now
        except BlockingIOError:
            continue
        except OSError:
            break
    return sent, time.monotonic() - last > 1.0


def fill(client, queue, body, count, exchange="", confirm=True, **options):
    """Publishes so many messages and waits until they are safe."""
    options.setdefault("delivery_mode", 2)
    if confirm:
        client.call(1, "confirm.select")
    one = client.publish_bytes(1, exchange, queue, body, **options)
    step = max(1, min(500, MIB // len(one)))
    done = 0
    while done < count:
        batch = min(step, count - done)
        client.send_bytes(one * batch)
        done += batch
        if confirm:
            confirmed = done - batch
            while confirmed < done:
                got = client.expect("basic.ack", 1)
                confirmed = max(confirmed, got.delivery_tag) if got.multiple else confirmed + 1


def together(*tasks):
    """Runs them at once; the first error is raised when all are done. Returns what they return."""
    results, errors = [None] * len(tasks), []

    def run(number, task):
        try:
            results[number] = task()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@contextlib.contextmanager
def closing(clients):
    """Closes the sockets at the end, whatever happens."""
    try:
        yield clients
    finally:
        for client in clients:
            (client.abort if hasattr(client, "abort") else client.close)()


def connect(port, timeout_s=30):
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def delete(node, *queues):
    with closing([login(node)]) as (client,):
        for queue in queues:
            client.call(1, "queue.delete", queue=queue)


def methods(count, channel, name, **arguments):
    """So many of one method, ready to be sent."""
    return amqp.frame(amqp.FRAME_METHOD, channel, amqp.encode_method(name, **arguments)) * count


def half_message(channel, announced, body):
    """A publish that announces more than comes."""
    method = amqp.encode_method("basic.publish", exchange="", routing_key="nowhere")
    header = struct.pack(">HHQH", 60, 0, announced, 0)
    frames = [amqp.frame(1, channel, method), amqp.frame(2, channel, header)]
    step = 131_064
    frames += [amqp.frame(3, channel, body[i : i + step]) for i in range(0, len(body), step)]
    return b"".join(frames)
