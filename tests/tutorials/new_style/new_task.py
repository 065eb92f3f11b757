"""Work queue, the sending side: a durable queue and a persistent message from the arguments."""
import os
import sys

import pika

connection = pika.BlockingConnection(
    pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))
)
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
for message in sys.argv[1:] or ["Hello World!"]:
    channel.basic_publish(
        exchange="",
        routing_key="task_queue",
        body=message,
        properties=pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent),
    )
    print(f"sent {message}", flush=True)
connection.close()
