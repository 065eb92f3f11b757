"""What a cluster costs: printed, never asserted, since a test machine has other things to do. Show it with `-s`."""

import time

import pytest
from kit import amqp

QUEUE = "backlog"
KIB = b"x" * 1024


def table(cluster, what, seconds=None, before=None):
    print(f"\n{what}")
    for node in cluster.nodes:
        line = f"  {node.name}: {node.resident_bytes() / 2**20:.0f} MiB"
        if before is not None:
            line += f", {100 * (node.cpu_seconds() - before[node.name]) / seconds:.1f} % of a core"
        print(line)


@pytest.mark.limit(600)
def test_an_idle_cluster_and_one_with_a_backlog_say_what_they_cost(cluster):
    before = {node.name: node.cpu_seconds() for node in cluster.nodes}
    time.sleep(10)  # the measurement itself
    table(cluster, "idle", 10, before)
    client = amqp.Client(*cluster.addresses()[0]).login()
    client.confirm_channel(1)
    client.declare(1, QUEUE, durable=True)
    for _ in range(50):
        client.publish_confirmed(1, "", QUEUE, *[KIB] * 1000, delivery_mode=2)
    table(cluster, "with 50,000 messages of 1 KiB")
    assert client.ready(1, QUEUE) == 50_000
    client.call(1, "queue.purge", queue=QUEUE)
    table(cluster, "after a purge")
