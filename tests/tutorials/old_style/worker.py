"""Work queue, a worker, for pika 0.x: acknowledges after the work."""
import os
import time

import pika

connection = pika.BlockingConnection(
    pika.ConnectionParameters(host='127.0.0.1', port=int(os.environ.get('AMQP_PORT', '5672'))))
channel = connection.channel()
channel.queue_declare(queue='task_queue', durable=True)


def callback(ch, method, properties, body):
    print('received %s redelivered=%s' % (body.decode(), method.redelivered), flush=True)
    time.sleep(body.count(b'.'))
    ch.basic_ack(delivery_tag=method.delivery_tag)
    print('done %s' % body.decode(), flush=True)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(callback, queue='task_queue')
print('waiting', flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    connection.close()
