"""Publish/subscribe, routing and topics, a subscriber, for pika 0.10 and older: `type=`."""
import os
import sys

import pika

kind, keys = sys.argv[1], sys.argv[2:] or ['']
connection = pika.BlockingConnection(
    pika.ConnectionParameters(host='127.0.0.1', port=int(os.environ.get('AMQP_PORT', '5672'))))
channel = connection.channel()
channel.exchange_declare(exchange='logs_' + kind, type=kind)
result = channel.queue_declare(exclusive=True)
for key in keys:
    channel.queue_bind(exchange='logs_' + kind, queue=result.method.queue, routing_key=key)


def callback(ch, method, properties, body):
    print('received %s:%s' % (method.routing_key, body.decode()), flush=True)


channel.basic_consume(callback, queue=result.method.queue, no_ack=True)
print('waiting on %s' % result.method.queue, flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
