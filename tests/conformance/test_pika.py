"""The same rules as a real client sees them."""

import pika
import pika.exceptions
import pytest


@pytest.fixture
def pika_connect(broker):
    made = []

    def connect(node=0, **options):
        host, port = broker.addresses[node % len(broker.addresses)]
        made.append(pika.BlockingConnection(pika.ConnectionParameters(host=host, port=port, **options)))
        return made[-1]

    yield connect
    for connection in made:
        if connection.is_open:
            connection.close()


def test_a_wrong_password_raises_an_authentication_error(pika_connect):
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika_connect(credentials=pika.PlainCredentials("guest", "wrong"))


def test_a_wrong_vhost_raises(pika_connect):
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError, match="vhost no-such-vhost not found"):
        pika_connect(virtual_host="no-such-vhost")


def test_a_channel_error_leaves_the_connection_open(pika_connect):
    connection = pika_connect()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        connection.channel().queue_declare("no-such-queue", passive=True)
    assert caught.value.reply_code == 404
    assert connection.is_open
    connection.channel().basic_qos(prefetch_count=1)


def test_blocking_confirms_raise_for_unroutable_messages(pika_connect, name):
    channel = pika_connect().channel()
    channel.confirm_delivery()
    queue = name()
    channel.queue_declare(queue, durable=True)
    channel.basic_publish("", queue, b"m", mandatory=True)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", "no-such-queue", b"m", mandatory=True)


def test_consume_with_a_generator_and_cancel(pika_connect, name):
    queue = name()
    channel = pika_connect(0).channel()
    channel.queue_declare(queue)
    channel.confirm_delivery()
    for i in range(20):
        channel.basic_publish("", queue, str(i))
    reader = pika_connect(1).channel()
    seen = []
    for method, _, body in reader.consume(queue, inactivity_timeout=20):
        reader.basic_ack(method.delivery_tag)
        seen.append(int(body))
        if len(seen) == 20:
            break
    reader.cancel()
    assert seen == list(range(20))


def test_a_deleted_queue_ends_start_consuming(pika_connect, name):
    queue = name()
    channel = pika_connect(0).channel()
    channel.queue_declare(queue)
    channel.basic_consume(queue, lambda *_: None)
    pika_connect(1).channel().queue_delete(queue)
    channel.start_consuming()


def test_direct_reply_to_carries_an_answer(pika_connect, name, broker):
    queue = name()
    server, client = pika_connect(0).channel(), pika_connect(1).channel()
    server.queue_declare(queue)
    answers = []
    client.basic_consume("amq.rabbitmq.reply-to", lambda c, m, p, body: answers.append(body), auto_ack=True)
    client.basic_publish("", queue, b"ping", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
    for _, properties, body in server.consume(queue, auto_ack=True, inactivity_timeout=20):
        server.basic_publish("", properties.reply_to, body + b" pong")
        break
    server.cancel()
    while not answers:
        client.connection.process_data_events(time_limit=20)
    assert answers == [b"ping pong"]
