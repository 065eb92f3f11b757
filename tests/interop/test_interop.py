"""Clients written by others, in C, JavaScript and Python, used as their users do, across nodes."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import aio_pika
import amqp as py_amqp
import pytest
from kit import amqp
from kit.programs import Program
from kit.wait import eventually

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("WARREN_CACHE", Path.home() / ".cache/warren"))


# amqplib, Node.js.


def test_amqplib(sides, name):
    modules = CACHE / "amqplib/node_modules"
    if shutil.which("node") is None:
        pytest.skip("node is missing: ./warren.sh test installs it")
    if not (modules / "amqplib").is_dir():
        pytest.skip(f"{modules} has no amqplib: ./warren.sh test installs it")
    producer, consumer = sides
    prefix = name("amqplib")
    client = Program(
        ["node", HERE / "amqplib/client.js", producer.url, consumer.url, prefix], {"NODE_PATH": str(modules)}
    )
    try:
        assert client.finish(timeout_s=100)[-1] == "done"
    finally:
        client.kill()


# amqp-tools: rabbitmq-c.


def tool(side, command, *arguments, stdin=None, status=0):
    """Runs one of the amqp-tools against a node; returns what it printed."""
    if shutil.which(command) is None:
        pytest.skip(f"{command} is missing: install amqp-tools")
    done = subprocess.run(
        [command, "--url", side.url, *arguments], input=stdin, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, (command, arguments, done)
    return done.stdout if status == 0 else done.stderr


def test_amqp_tools_declare_publish_get_and_delete(sides, name):
    producer, consumer = sides
    queue = name()
    assert tool(producer, "amqp-declare-queue", "-d", "-q", queue).strip() == queue
    for body in ("first", "second"):
        tool(producer, "amqp-publish", "-r", queue, "-p", "-b", body)
    # amqp-publish waits for no confirm, but closes its connection: what it sent may be under way for a moment.
    assert eventually(lambda: _get(consumer, queue), "a message in the queue") == "first"
    assert eventually(lambda: _get(consumer, queue), "a message in the queue") == "second"
    tool(consumer, "amqp-get", "-q", queue, status=2)
    tool(producer, "amqp-publish", "-r", queue, "-l", stdin="a\nb\nc\n")
    eventually(lambda: _ready(producer, queue) == 3, "three lines in the queue")
    assert tool(consumer, "amqp-delete-queue", "-q", queue).strip() == "3"
    assert f"NOT_FOUND - no queue '{queue}' in vhost '/'" in tool(
        producer, "amqp-get", "-q", queue, status=1
    )


def _get(side, queue):
    done = subprocess.run(["amqp-get", "--url", side.url, "-q", queue], capture_output=True, text=True, timeout=60)
    return done.stdout if done.returncode == 0 else None


def _ready(side, queue):
    client = amqp.Client(side.host, side.port).login()
    client.channel(1)
    try:
        return client.ready(1, queue)
    finally:
        client.close()


def test_amqp_tools_consume_with_a_command_per_message(sides, name, tmp_path):
    producer, consumer = sides
    queue = name()
    tool(producer, "amqp-declare-queue", "-d", "-q", queue)
    for number in range(5):
        tool(producer, "amqp-publish", "-r", queue, "-b", f"message {number}\n")
    assert tool(consumer, "amqp-consume", "-q", queue, "-c", "3", "-p", "1", "cat") == "".join(
        f"message {n}\n" for n in range(3)
    )
    # The message of a command that fails is not acknowledged: it is for the next one. The command
    # reads its input first: amqp-consume dies of SIGPIPE when it writes to one that has ended.
    refuse = tmp_path / "refuse"
    refuse.write_text("#!/bin/sh\ncat >/dev/null\nexit 1\n")
    refuse.chmod(0o755)
    tool(consumer, "amqp-consume", "-q", queue, "-c", "1", str(refuse))
    eventually(lambda: _ready(producer, queue) == 2, "the message back in its queue")
    assert tool(consumer, "amqp-consume", "-q", queue, "-c", "2", "cat") == "message 3\nmessage 4\n"
    eventually(lambda: _ready(producer, queue) == 0, "an empty queue")


def test_amqp_tools_headers_arrive(sides, name):
    producer, consumer = sides
    queue = name()
    client = amqp.Client(consumer.host, consumer.port).login()
    client.channel(1)
    client.declare(1, queue, durable=True)
    tool(producer, "amqp-publish", "-r", queue, "-p", "-C", "text/plain", "-t", "answers",
         "-H", "colour: green", "-b", "body")  # fmt: skip
    got = eventually(lambda: client.get(1, queue, no_ack=True), "the message")
    assert got.body == b"body"
    properties = got.content.properties
    assert properties["headers"] == {"colour": "green"}
    assert (properties["content_type"], properties["reply_to"], properties["delivery_mode"]) == (
        "text/plain", "answers", 2,
    )  # fmt: skip
    client.close()


# aio-pika.


async def _aio_pika_round(producer_url, consumer_url, queue_name):
    async with await aio_pika.connect_robust(producer_url) as sending, await aio_pika.connect_robust(
        consumer_url
    ) as receiving:
        sender = await sending.channel(publisher_confirms=True, on_return_raises=True)
        await sender.declare_queue(queue_name, durable=True)
        receiver = await receiving.channel()
        await receiver.set_qos(prefetch_count=5)
        queue = await receiver.get_queue(queue_name)
        await asyncio.gather(*(
            sender.default_exchange.publish(
                aio_pika.Message(
                    f"message {n}".encode(),
                    headers={"number": n},
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    correlation_id=f"c-{n}",
                ),
                routing_key=queue_name,
            )
            for n in range(50)
        ))  # fmt: skip
        received = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    received.append((message.body.decode(), message.headers["number"], message.correlation_id))
                if len(received) == 50:
                    break
        assert sorted(received, key=lambda m: m[1]) == [(f"message {n}", n, f"c-{n}") for n in range(50)]
        assert await queue.get(fail=False) is None
        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await sender.default_exchange.publish(aio_pika.Message(b"lost?"), f"{queue_name}-nowhere", mandatory=True)
        with pytest.raises(aio_pika.exceptions.ChannelPreconditionFailed, match="inequivalent arg 'durable'"):
            await (await receiving.channel()).declare_queue(queue_name, durable=False)
        await queue.delete()


def test_aio_pika_publishes_with_confirms_and_consumes(sides, name):
    producer, consumer = sides
    asyncio.run(asyncio.wait_for(_aio_pika_round(producer.url, consumer.url, name()), 90))


async def _aio_pika_rpc(server_url, client_url, queue_name):
    async with await aio_pika.connect_robust(server_url) as serving, await aio_pika.connect_robust(
        client_url
    ) as calling:
        server = await aio_pika.patterns.RPC.create(await serving.channel())

        async def double(*, number):
            return 2 * number

        await server.register(queue_name, double, auto_delete=True)
        client = await aio_pika.patterns.RPC.create(await calling.channel())
        answers = await asyncio.gather(*(client.call(queue_name, kwargs={"number": n}) for n in range(20)))
        assert answers == [2 * n for n in range(20)]
        await client.close()
        await server.close()


def test_aio_pika_calls_procedures_on_another_node(sides, name):
    producer, consumer = sides
    asyncio.run(asyncio.wait_for(_aio_pika_rpc(producer.url, consumer.url, name()), 90))


# py-amqp, under kombu and Celery.


def test_py_amqp(sides, name):
    producer, consumer = sides
    queue, exchange = name(), name("exchange")
    with (
        py_amqp.Connection(f"{producer.host}:{producer.port}", "guest", "guest", confirm_publish=True) as sending,
        py_amqp.Connection(f"{consumer.host}:{consumer.port}", "guest", "guest", heartbeat=10) as receiving,
    ):
        sender, receiver = sending.channel(), receiving.channel()
        sender.exchange_declare(exchange, "topic", durable=True, auto_delete=False)
        assert receiver.queue_declare(queue, durable=True, auto_delete=False).message_count == 0
        receiver.queue_bind(queue, exchange, "*.green.#")
        for n in range(20):
            colour = "green" if n % 2 == 0 else "red"
            message = py_amqp.Message(f"{n}", application_headers={"n": n}, delivery_mode=2, content_type="text/plain")
            sender.basic_publish(message, exchange, f"leaf.{colour}.x")
        received = []
        receiver.basic_qos(0, 3, False)

        def take(message):
            received.append((message.body, message.headers["n"], message.properties["content_type"]))
            receiver.basic_ack(message.delivery_tag)

        receiver.basic_consume(queue, callback=take)
        while len(received) < 10:
            receiving.drain_events(timeout=20)
        assert received == [(str(n), n, "text/plain") for n in range(0, 20, 2)]
        with pytest.raises(py_amqp.exceptions.NotFound, match=f"no exchange '{exchange}-missing' in vhost '/'"):
            receiver.exchange_declare(f"{exchange}-missing", "topic", passive=True)
        assert sender.queue_delete(queue) == 0
