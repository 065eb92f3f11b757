"""Publish/subscribe, routing and topics, the sending side: emit_log.py TYPE KEY TEXT."""
import os
import sys

import pika

kind, key, text = sys.argv[1:]
connection = pika.BlockingConnection(
    pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))
)
channel = connection.channel()
channel.exchange_declare(exchange=f"logs_{kind}", exchange_type=kind)
channel.basic_publish(exchange=f"logs_{kind}", routing_key=key, body=text)
print(f"sent {key}:{text}", flush=True)
connection.close()
