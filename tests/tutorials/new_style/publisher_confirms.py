"""Publisher confirms: one by one, and asynchronously with a window."""
import os

import pika

MESSAGES = 300
parameters = pika.ConnectionParameters(host="127.0.0.1", port=int(os.environ.get("AMQP_PORT", "5672")))


def one_by_one():
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    queue = channel.queue_declare(queue="", exclusive=True).method.queue
    channel.confirm_delivery()
    for i in range(MESSAGES):
        channel.basic_publish("", queue, str(i), mandatory=True)
    left = channel.queue_declare(queue, passive=True).method.message_count
    connection.close()
    print(f"one by one: {left} confirmed", flush=True)


class Asynchronous:
    def __init__(self):
        self.outstanding, self.confirmed = set(), 0
        self.connection = pika.SelectConnection(
            parameters,
            on_open_callback=self.on_open,
            on_close_callback=lambda connection, reason: connection.ioloop.stop(),
        )

    def on_open(self, connection):
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel):
        self.channel = channel
        channel.queue_declare("", exclusive=True, callback=self.on_queue)

    def on_queue(self, frame):
        self.queue = frame.method.queue
        self.channel.confirm_delivery(ack_nack_callback=self.on_confirm, callback=self.on_selected)

    def on_selected(self, _frame):
        for i in range(1, MESSAGES + 1):
            self.outstanding.add(i)
            self.channel.basic_publish("", self.queue, str(i))

    def on_confirm(self, frame):
        tag = frame.method.delivery_tag
        done = {t for t in self.outstanding if t <= tag} if frame.method.multiple else {tag}
        assert isinstance(frame.method, pika.spec.Basic.Ack), frame
        self.outstanding -= done
        self.confirmed += len(done)
        if not self.outstanding:
            self.connection.close()

    def run(self):
        self.connection.ioloop.start()
        print(f"asynchronous: {self.confirmed} confirmed", flush=True)


one_by_one()
Asynchronous().run()
