"""Clients that connect again by themselves, when the node that they are connected to dies and comes back."""

import asyncio
import os
import shutil
from pathlib import Path

import aio_pika
import pytest
from kit import amqp
from kit.programs import Program

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("WARREN_CACHE", Path.home() / ".cache/warren"))


async def _robust_consumer(cluster, queue_name):
    home, other = cluster.nodes[0], cluster.nodes[1]
    received = asyncio.Queue()

    async def take(message):
        async with message.process(ignore_processed=True):
            await received.put((message.body.decode(), message.redelivered))

    seen = set()

    async def arrives(body, timeout_s=60):
        """Waits for `body`. Others may come only as copies that say so: of what was held by a connection that broke."""
        while True:
            got, redelivered = await asyncio.wait_for(received.get(), timeout_s)
            assert got == body or (got in seen and redelivered), (got, redelivered, seen)
            seen.add(got)
            if got == body:
                return

    consuming = await aio_pika.connect_robust(f"amqp://guest:guest@127.0.0.1:{home.amqp_port}/", reconnect_interval=0.2)
    publishing = await aio_pika.connect_robust(f"amqp://guest:guest@127.0.0.1:{other.amqp_port}/")
    async with consuming, publishing:
        channel = await consuming.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(queue_name, durable=True)
        logs = await channel.declare_exchange(f"{queue_name}-logs", aio_pika.ExchangeType.FANOUT)
        private = await channel.declare_queue(exclusive=True)
        await private.bind(logs)
        await queue.consume(take)
        await private.consume(take)
        publisher = await publishing.channel()

        async def publish(exchange, key, body):
            message = aio_pika.Message(body.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await exchange.publish(message, key)

        await publish(publisher.default_exchange, queue_name, "before")
        await arrives("before")
        home.kill()
        await publish(publisher.default_exchange, queue_name, "while it is away")
        home.start()
        await arrives("while it is away")
        await publish(publisher.default_exchange, queue_name, "after")
        await arrives("after")
        # The exclusive queue died with its connection, and its owner declared and bound it again.
        seen_by = await publisher.get_exchange(f"{queue_name}-logs")
        for _ in range(300):
            await publish(seen_by, "", "to all")
            try:
                await arrives("to all", timeout_s=0.2)
                break
            except TimeoutError:
                continue
        else:
            raise AssertionError("the exclusive queue is not bound again")


def test_an_aio_pika_consumer_lives_through_the_death_of_its_node(cluster):
    asyncio.run(asyncio.wait_for(_robust_consumer(cluster, "robust"), 100))


def test_an_amqplib_consumer_lives_through_the_death_of_its_node(cluster):
    modules = CACHE / "amqplib/node_modules"
    if shutil.which("node") is None or not (modules / "amqplib").is_dir():
        pytest.skip(f"node, or amqplib in {modules}, is missing: ./warren.sh test installs them")
    home, other = cluster.nodes[0], cluster.nodes[1]
    publisher = amqp.Client(*other.address).login()
    publisher.confirm_channel(1)
    consumer = Program(
        ["node", HERE / "amqplib/recovering.js", f"amqp://guest:guest@127.0.0.1:{home.amqp_port}", "recovering"],
        {"NODE_PATH": str(modules)},
    )
    try:
        consumer.expect("consuming")
        publisher.publish_confirmed(1, "", "recovering", b"before", delivery_mode=2)
        consumer.expect("received before")
        home.kill()
        publisher.publish_confirmed(1, "", "recovering", b"while it is away", delivery_mode=2)
        home.start()
        consumer.expect("received while it is away")
        publisher.publish_confirmed(1, "", "recovering", b"stop", delivery_mode=2)
        assert consumer.finish()[-1] == "received stop"
    finally:
        consumer.kill()
    assert publisher.ready(1, "recovering") == 0
