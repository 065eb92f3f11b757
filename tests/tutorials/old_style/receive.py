"""Hello world, the receiving side, for pika 0.x: the callback comes first, and `no_ack`."""
import os

import pika

connection = pika.BlockingConnection(
    pika.ConnectionParameters(host='127.0.0.1', port=int(os.environ.get('AMQP_PORT', '5672'))))
channel = connection.channel()
channel.queue_declare(queue='hello')


def callback(ch, method, properties, body):
    print('received %s' % body.decode(), flush=True)


channel.basic_consume(callback, queue='hello', no_ack=True)
print('waiting', flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
