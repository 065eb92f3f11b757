"""Hello world, the receiving side: automatic acknowledgement, until Ctrl+C."""
import os
import sys

import pika


def on_message(channel, method, properties, body):
    print(f"received {body.decode()}", flush=True)


connection = pika.BlockingConnection(
    pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))
)
channel = connection.channel()
channel.queue_declare(queue="hello")
channel.basic_consume(queue="hello", on_message_callback=on_message, auto_ack=True)
print("waiting", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
    sys.exit(0)
