"""Hello world, the sending side, for pika 0.x."""
import os

import pika

connection = pika.BlockingConnection(
    pika.ConnectionParameters(host='127.0.0.1', port=int(os.environ.get('AMQP_PORT', '5672'))))
channel = connection.channel()
channel.queue_declare(queue='hello')
channel.basic_publish(exchange='', routing_key='hello', body='Hello World!')
print('sent Hello World!', flush=True)
connection.close()
