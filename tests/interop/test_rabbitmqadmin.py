"""RabbitMQ's own command line over HTTP, as its users type it: each command at the next node of the cluster."""

import itertools
import json
import shutil
import subprocess

import pytest
from kit.wait import eventually


@pytest.fixture
def admin(own_broker):
    """Runs rabbitmqadmin; what it printed, or the JSON of a listing."""
    program = shutil.which("rabbitmqadmin")
    if program is None:
        pytest.skip("rabbitmqadmin is missing: it comes with the package rabbitmq-server")
    nodes = itertools.cycle(own_broker.cluster.nodes)

    def run(*arguments, status=0):
        node = next(nodes)
        listing = ["-f", "raw_json"] if arguments[0] in ("list", "show", "get") else []
        done = subprocess.run(
            [program, "-P", str(node.http_port), *listing, *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == status, (arguments, done)
        return json.loads(done.stdout) if listing else done.stdout + done.stderr

    return run


def knows(admin, *listing, **wanted):
    """All three nodes list such an item."""

    def probe():
        found = [admin("list", *listing) for _ in range(3)]
        return all(any(wanted.items() <= item.items() for item in items) for items in found)

    eventually(probe, f"every node lists {wanted}")


def test_declare_list_publish_get_and_delete(admin, name):
    queue, exchange = name("q"), name("x")
    assert "queue declared" in admin("declare", "queue", f"name={queue}", "durable=true")
    assert "exchange declared" in admin("declare", "exchange", f"name={exchange}", "type=topic")
    knows(admin, "queues", name=queue, durable=True)
    knows(admin, "exchanges", name=exchange, type="topic")
    ends = [f"source={exchange}", f"destination={queue}"]
    assert "binding declared" in admin("declare", "binding", *ends, "routing_key=a.#")
    knows(admin, "bindings", source=exchange, destination=queue, routing_key="a.#")
    published = admin("publish", f"exchange={exchange}", "routing_key=a.b", "payload=hello")
    assert published.strip() == "Message published"
    assert "NOT routed" in admin("publish", f"exchange={exchange}", "routing_key=b", "payload=hello")
    (got,) = admin("get", f"queue={queue}", "ackmode=ack_requeue_true", "count=5")
    assert (got["payload"], got["routing_key"], got["redelivered"]) == ("hello", "a.b", False)
    (again,) = eventually(lambda: admin("get", f"queue={queue}", "ackmode=ack_requeue_false"), "it is back")
    assert again["redelivered"] is True
    assert "queue purged" in admin("purge", "queue", f"name={queue}")
    key = ["destination_type=queue", "properties_key=a.%23"]
    assert "binding deleted" in admin("delete", "binding", *ends, *key)
    assert "queue deleted" in admin("delete", "queue", f"name={queue}")
    assert "exchange deleted" in admin("delete", "exchange", f"name={exchange}")
    admin("delete", "queue", f"name={queue}", status=1)


def test_what_operators_say(admin, name):
    vhost, user, policy = name("v"), name("u"), name("p")
    admin("declare", "vhost", f"name={vhost}")
    admin("declare", "user", f"name={user}", "password=p", "tags=management")
    knows(admin, "vhosts", name=vhost)
    knows(admin, "users", name=user)
    admin("declare", "permission", f"vhost={vhost}", f"user={user}", "configure=^c", "write=.*", "read=.*")
    admin("declare", "vhost_limit", f"vhost={vhost}", "name=max-queues", "value=3")
    admin("-V", vhost, "declare", "policy", f"name={policy}", "pattern=^q", 'definition={"max-length":5}')
    admin("-V", vhost, "declare", "operator_policy", f"name={policy}", "pattern=.*", 'definition={"max-length":9}')
    shovel = 'value={"src-uri":"amqp://","src-queue":"a","dest-uri":"amqp://","dest-queue":"b"}'
    admin("-V", vhost, "declare", "parameter", "component=shovel", f"name={policy}", shovel)
    knows(admin, "permissions", vhost=vhost, user=user, configure="^c")
    knows(admin, "vhost_limits", vhost=vhost, value={"max-queues": 3})
    knows(admin, "policies", vhost=vhost, name=policy, definition={"max-length": 5})
    knows(admin, "operator_policies", vhost=vhost, name=policy)
    knows(admin, "parameters", vhost=vhost, name=policy, component="shovel")
    admin("delete", "vhost", f"name={vhost}")
    admin("delete", "user", f"name={user}")


def test_definitions_go_out_and_come_back(admin, name, tmp_path):
    queue = name("q")
    admin("declare", "queue", f"name={queue}", "durable=true", 'arguments={"x-max-length":3}')
    knows(admin, "queues", name=queue)
    file = tmp_path / "definitions.json"
    admin("export", str(file))
    admin("delete", "queue", f"name={queue}")
    admin("import", str(file))
    knows(admin, "queues", name=queue, arguments={"x-max-length": 3})
    assert admin("show", "overview")[0]["product_name"] == "Warren"
    assert len(admin("list", "nodes")) == 3
