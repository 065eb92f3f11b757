"""Dead letters when nodes die: each message is in its queue or where the dead go, never nowhere."""

import time

import pytest
from kit import amqp
from kit.wait import eventually


def connected(cluster):
    for node in cluster.running():
        try:
            client = amqp.Client(*node.address)
            client.login()
            client.channel(1)
            return client
        except OSError:
            continue
    raise OSError("no node answers")


@pytest.mark.limit(300)
def test_every_expired_message_reaches_the_dead_letter_queue_though_the_leader_is_killed(cluster):
    client = connected(cluster)
    client.declare(1, "dead", durable=True)
    arguments = {"x-message-ttl": 3000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    client.declare(1, "dying", durable=True, arguments=arguments)
    client.call(1, "confirm.select")
    wanted = {f"m{number}".encode() for number in range(2000)}
    client.publish_confirmed(1, "", "dying", *sorted(wanted))
    client.close()
    # They begin to die within these seconds; the leader dies among them.
    time.sleep(2.8)
    leader = cluster.leader_of("dying")
    leader.kill()
    found = set()
    client = connected(cluster)

    def all_found():
        found.update(client.get_all(1, "dead"))
        return found >= wanted

    eventually(all_found, "every message among the dead", timeout_s=60)
    leader.start()
    leader.wait_ready()
