"""Publish/subscribe, routing and topics, the sending side, for pika 0.10 and older: `type=`."""
import os
import sys

import pika

kind, key, text = sys.argv[1:]
connection = pika.BlockingConnection(
    pika.ConnectionParameters(host='127.0.0.1', port=int(os.environ.get('AMQP_PORT', '5672'))))
channel = connection.channel()
channel.exchange_declare(exchange='logs_' + kind, type=kind)
channel.basic_publish(exchange='logs_' + kind, routing_key=key, body=text)
print('sent %s:%s' % (key, text), flush=True)
connection.close()
