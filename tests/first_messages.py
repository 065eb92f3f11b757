"""Sends and receives the first messages: a durable queue, each node as producer and as consumer once."""

import sys

import pika

PORTS = [int(port) for port in sys.argv[1:]]


def connect(port):
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port))


for number, port in enumerate(PORTS):
    other = PORTS[(number + 1) % len(PORTS)]
    producer = connect(port)
    channel = producer.channel()
    channel.confirm_delivery()
    channel.queue_declare("warren.first", durable=True)
    channel.basic_publish(
        "", "warren.first", b"Hello World!", pika.BasicProperties(delivery_mode=2), mandatory=True
    )
    consumer = connect(other)
    channel = consumer.channel()
    method, _, body = next(channel.consume("warren.first", inactivity_timeout=10))
    if method is None:
        sys.exit(f"nothing came from the queue on port {other}")
    channel.basic_ack(method.delivery_tag)
    consumer.close()
    producer.close()
    print(f"sent to port {port}, received from port {other}: {body.decode()}")
