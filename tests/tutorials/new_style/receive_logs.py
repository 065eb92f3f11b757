"""Publish/subscribe, routing and topics, a subscriber: receive_logs.py TYPE [BINDING KEY]..."""
import os
import sys

import pika


def on_message(channel, method, properties, body):
    print(f"received {method.routing_key}:{body.decode()}", flush=True)


kind, keys = sys.argv[1], sys.argv[2:] or [""]
connection = pika.BlockingConnection(
    pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))
)
channel = connection.channel()
channel.exchange_declare(exchange=f"logs_{kind}", exchange_type=kind)
queue = channel.queue_declare(queue="", exclusive=True).method.queue
for key in keys:
    channel.queue_bind(exchange=f"logs_{kind}", queue=queue, routing_key=key)
channel.basic_consume(queue=queue, on_message_callback=on_message, auto_ack=True)
print(f"waiting on {queue}", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
