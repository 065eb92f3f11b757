"""Work queue, a worker: one message at a time, a second of work for each dot, then the acknowledgement."""
import os
import time

import pika


def on_message(channel, method, properties, body):
    print(f"received {body.decode()} redelivered={method.redelivered}", flush=True)
    time.sleep(body.count(b"."))
    channel.basic_ack(delivery_tag=method.delivery_tag)
    print(f"done {body.decode()}", flush=True)


connection = pika.BlockingConnection(
    pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))
)
channel = connection.channel()
channel.queue_declare(queue="task_queue", durable=True)
channel.basic_qos(prefetch_count=int(os.environ.get("PREFETCH", "1")))
channel.basic_consume(queue="task_queue", on_message_callback=on_message)
print("waiting", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
