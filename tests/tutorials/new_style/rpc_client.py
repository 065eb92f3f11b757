"""Remote procedure call, the client: asks for each argument over a reply queue of its own."""
import os
import sys
import uuid

import pika


class Client:
    def __init__(self):
        self.connection = pika.BlockingConnection(
            pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))
        )
        self.channel = self.connection.channel()
        self.replies = self.channel.queue_declare(queue="", exclusive=True).method.queue
        self.channel.basic_consume(queue=self.replies, on_message_callback=self.on_reply, auto_ack=True)
        self.answer = self.asked = None

    def on_reply(self, channel, method, properties, body):
        if properties.correlation_id == self.asked:
            self.answer = body

    def call(self, n):
        self.answer, self.asked = None, str(uuid.uuid4())
        self.channel.basic_publish(
            exchange="",
            routing_key="rpc_queue",
            properties=pika.BasicProperties(reply_to=self.replies, correlation_id=self.asked),
            body=str(n),
        )
        while self.answer is None:
            self.connection.process_data_events(time_limit=None)
        return int(self.answer)


client = Client()
for n in sys.argv[1:]:
    print(f"fibonacci({n}) = {client.call(int(n))}", flush=True)
client.connection.close()
