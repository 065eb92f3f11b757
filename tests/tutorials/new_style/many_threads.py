"""Work shared between threads: 12 producers and 10 consumers around one queue.

First the queue is in this process, then it is on the broker; the rest of the program stays. Every thread has a
connection of its own. AMQP_PORTS may name several nodes, over which the threads are spread.
"""
import os
import queue
import threading

import pika

PRODUCERS, CONSUMERS, EACH = 12, 10, 50
PORTS = [int(p) for p in os.environ.get("AMQP_PORTS", os.environ.get("AMQP_PORT", "5672")).split(",")]


class InProcess:
    shared = queue.Queue()

    def __init__(self, _number):
        pass

    def put(self, item):
        self.shared.put(item)

    def items(self):
        while True:
            yield self.shared.get()

    def close(self):
        pass


class OnBroker:
    def __init__(self, number):
        parameters = pika.ConnectionParameters(host="127.0.0.1", port=PORTS[number % len(PORTS)])
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        self.channel.queue_declare(queue="shared_work")
        self.channel.basic_qos(prefetch_count=5)

    def put(self, item):
        self.channel.basic_publish(exchange="", routing_key="shared_work", body=item)

    def items(self):
        for method, _properties, body in self.channel.consume("shared_work"):
            yield body.decode()
            self.channel.basic_ack(method.delivery_tag)

    def close(self):
        self.connection.close()


def run(kind):
    done, lock = [], threading.Lock()

    def produce(number):
        endpoint = kind(number)
        for i in range(EACH):
            endpoint.put(f"{number}-{i}")
        endpoint.close()

    def consume(number):
        endpoint = kind(number)
        for item in endpoint.items():
            if item == "stop":
                break
            with lock:
                done.append(item)
        # Leaving the loop above early leaves its last message unacknowledged: acknowledge it by hand.
        if kind is OnBroker:
            endpoint.channel.basic_ack(0, multiple=True)
        endpoint.close()

    consumers = [threading.Thread(target=consume, args=(i,)) for i in range(CONSUMERS)]
    producers = [threading.Thread(target=produce, args=(i,)) for i in range(PRODUCERS)]
    for thread in consumers + producers:
        thread.start()
    for thread in producers:
        thread.join()
    endpoint = kind(0)
    while len(done) < PRODUCERS * EACH:
        threading.Event().wait(0.05)
    for _ in range(CONSUMERS * 6):  # a consumer may hold as many as its prefetch when it stops
        endpoint.put("stop")
    for thread in consumers:
        thread.join()
    endpoint.close()
    print(f"{kind.__name__}: {len(done)} done, {len(set(done))} different", flush=True)


run(InProcess)
run(OnBroker)
