"""The "get started" programs, in the style of today's pika and of pika 0.x, producer and consumer on different nodes."""

import pytest
from kit import amqp
from kit.cluster import Cluster
from kit.wait import eventually

ANY_PIKA = pytest.mark.parametrize("style", ["new", "old-0.13", "old-0.10"])
TYPE_ARGUMENT = pytest.mark.parametrize("style", ["new", "old-0.10"])  # 0.13 no longer knows `type=`


@ANY_PIKA
def test_hello_world_started_with_the_consumer_first(program, style):
    receiver = program(style, "receive.py", node=0)
    receiver.expect("waiting")
    program(style, "send.py", node=1).finish()
    receiver.expect("received Hello World!")
    receiver.interrupt()


@ANY_PIKA
def test_hello_world_started_with_the_producer_first(program, style):
    program(style, "send.py", node=2).finish()
    receiver = program(style, "receive.py", node=1)
    receiver.expect("received Hello World!")
    receiver.interrupt()


@pytest.mark.parametrize("sender, receiver", [("new", "old-0.10"), ("old-0.10", "new")])
def test_old_and_new_clients_talk_to_each_other(program, sender, receiver):
    program(sender, "send.py", node=0).finish()
    program(receiver, "receive.py", node=1).expect("received Hello World!")


@ANY_PIKA
def test_workers_share_the_tasks(program, style):
    workers = [program(style, "worker.py", node=n) for n in (0, 1)]
    for worker in workers:
        worker.expect("waiting")
    program(style, "new_task.py", *(f"task-{i}." for i in range(6)), node=2).finish()
    eventually(lambda: sum(w.count("done .*") for w in workers) == 6, "six tasks are done")
    assert all(w.count("done .*") >= 2 for w in workers), [w.lines for w in workers]
    assert all(w.count(".*redelivered=True") == 0 for w in workers)
    for worker in workers:
        worker.interrupt()


@ANY_PIKA
def test_the_task_of_a_killed_worker_goes_to_another_one(program, style):
    first = program(style, "worker.py", node=0)
    first.expect("waiting")
    program(style, "new_task.py", "long..............................", node=1).finish()
    first.expect("received long.* redelivered=False")
    first.kill()
    second = program(style, "worker.py", node=2)
    second.expect("received long.* redelivered=True")
    second.kill()


@pytest.mark.parametrize("ending", ["channel", "connection"])
def test_the_task_of_a_closed_channel_or_connection_goes_to_another_worker(program, broker, ending):
    program("new", "new_task.py", "short", node=0).finish()
    first = amqp.Client(*broker.addresses[0]).login()
    first.channel(1)
    first.consume(1, "task_queue")
    first.expect("basic.deliver", 1, redelivered=False)
    second = program("new", "worker.py", node=1)
    second.expect("waiting")
    if ending == "channel":
        first.call(1, "channel.close", reply_code=200)
    else:
        first.close()
    second.expect("done short")
    assert second.count("received short redelivered=True") == 1


def test_the_free_worker_gets_the_next_task(program):
    slow, quick = (program("new", "worker.py", node=n) for n in (0, 1))
    for worker in (slow, quick):
        worker.expect("waiting")
    program("new", "new_task.py", "slow" + "." * 30, *(f"quick-{i}" for i in range(10)), node=2).finish()
    eventually(lambda: slow.count("done quick.*") + quick.count("done quick.*") == 10, "ten quick tasks are done")
    assert {slow.count("done quick.*"), quick.count("done quick.*")} == {0, 10}


def test_without_prefetch_messages_alternate(program):
    workers = [program("new", "worker.py", node=n, PREFETCH="0") for n in (0, 1)]
    for worker in workers:
        worker.expect("waiting")
    program("new", "new_task.py", *(f"task-{i}" for i in range(10)), node=0).finish()
    for worker in workers:
        worker.expect("done .*", count=5)


def test_declaring_hello_with_another_durability_is_refused(program, broker):
    program("new", "send.py").finish()
    client = amqp.Client(*broker.addresses[0]).login()
    client.channel(1)
    client.send(1, "queue.declare", queue="hello", durable=True)
    client.expect_channel_close(
        1, 406,
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'hello' in vhost '/': "
        "received 'true' but current is 'false'", "queue.declare",
    )  # fmt: skip


@TYPE_ARGUMENT
def test_every_subscriber_gets_a_copy(program, broker, style):
    program(style, "emit_log.py", "fanout", "", "dropped: nobody listens", node=0).finish()
    subscribers = [program(style, "receive_logs.py", "fanout", node=n) for n in range(3)]
    queues = [s.expect("waiting on .*")[0].split()[-1] for s in subscribers]
    program(style, "emit_log.py", "fanout", "", "to all", node=1).finish()
    for subscriber in subscribers:
        subscriber.expect("received :to all")
        assert subscriber.count("received.*") == 1
        subscriber.interrupt()
    client = amqp.Client(*broker.addresses[0]).login()
    for number, queue in enumerate(queues, start=1):
        client.channel(number)
        client.send(number, "queue.declare", queue=queue, passive=True)
        client.expect_channel_close(number, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare")


@TYPE_ARGUMENT
def test_routing_sends_to_those_who_asked_for_the_key(program, style):
    errors = program(style, "receive_logs.py", "direct", "error", node=0)
    everything = program(style, "receive_logs.py", "direct", "info", "warning", "error", node=1)
    for subscriber in (errors, everything):
        subscriber.expect("waiting on .*")
    for key in ("info", "error", "debug", "warning"):
        program(style, "emit_log.py", "direct", key, "text", node=2).finish()
    assert everything.expect("received .*", count=3) == ["received info:text", "received error:text", "received warning:text"]
    assert errors.expect("received .*") == ["received error:text"]


@TYPE_ARGUMENT
def test_topics_match_words(program, style):
    kernel = program(style, "receive_logs.py", "topic", "kern.*", node=0)
    critical = program(style, "receive_logs.py", "topic", "*.critical", node=1)
    everything = program(style, "receive_logs.py", "topic", "#", node=2)
    for subscriber in (kernel, critical, everything):
        subscriber.expect("waiting on .*")
    for key in ("kern.critical", "cron.critical", "kern.info", "kern.info.more"):
        program(style, "emit_log.py", "topic", key, "t", node=0).finish()
    assert len(everything.expect("received .*", count=4)) == 4
    assert kernel.expect("received .*", count=2) == ["received kern.critical:t", "received kern.info:t"]
    assert critical.expect("received .*", count=2) == ["received kern.critical:t", "received cron.critical:t"]


def test_remote_procedure_calls_are_answered(program):
    server = program("new", "rpc_server.py", node=0)
    server.expect("waiting")
    lines = program("new", "rpc_client.py", "0", "10", "30", node=1).finish()
    assert lines == ["fibonacci(0) = 0", "fibonacci(10) = 55", "fibonacci(30) = 832040"]
    server.interrupt()


def test_publisher_confirms_one_by_one_and_asynchronous(program):
    lines = program("new", "publisher_confirms.py", node=1).finish()
    assert lines == ["one by one: 300 confirmed", "asynchronous: 300 confirmed"]


def test_twelve_producers_and_ten_consumers_share_one_queue(program, broker):
    ports = ",".join(str(port) for _, port in broker.addresses)
    lines = program("new", "many_threads.py", AMQP_PORTS=ports).finish(timeout_s=100)
    assert lines == ["InProcess: 600 done, 600 different", "OnBroker: 600 done, 600 different"]


@pytest.mark.limit(300)
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_durable_message_survives_the_restart_of_every_node(binary, tmp_path, request, how):
    if request.config.getoption("--external"):
        pytest.skip("restarts nodes of our own")
    with Cluster(binary, tmp_path) as cluster:
        client = amqp.Client(*cluster.nodes[0].address).login()
        client.confirm_channel(1)
        client.declare(1, "task_queue", durable=True)
        client.publish_confirmed(1, "", "task_queue", b"survivor", delivery_mode=2)
        for node in cluster.nodes:
            node.kill() if how == "kill" else node.stop()
        for node in cluster.nodes:
            node.start()
        cluster.wait_ready()
        reader = amqp.Client(*cluster.nodes[1].address).login()
        reader.channel(1)
        assert reader.get(1, "task_queue").body == b"survivor"
