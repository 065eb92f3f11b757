"""A virtual host of a test's own, as operators make it over HTTP."""

import uuid

import pytest
from kit.http import http
from kit.wait import eventually


@pytest.fixture
def nodes(own_broker):
    return own_broker.cluster.nodes


@pytest.fixture
def place(nodes):
    """A vhost and a user of its own, which may do everything there."""
    name = f"v-{uuid.uuid4().hex[:8]}"
    assert http(nodes[0], "PUT", f"/vhosts/{name}", {})[0] == 201
    assert http(nodes[0], "PUT", f"/users/{name}", {"password": "p", "tags": "management"})[0] == 201
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    assert http(nodes[0], "PUT", f"/permissions/{name}/{name}", everything)[0] == 201
    yield name
    http(nodes[0], "DELETE", f"/vhosts/{name}/deletion/protection")
    http(nodes[0], "DELETE", f"/vhosts/{name}")
    http(nodes[0], "DELETE", f"/users/{name}")


@pytest.fixture
def enter(raw, place, nodes):
    """Connects to the vhost as its user, once the node knows both."""

    def connect(node=0):
        path = f"/permissions/{place}/{place}"
        eventually(lambda: http(nodes[node], "GET", path)[0] == 200, "the node knows the user")
        return raw(node).login(place, "p", vhost=place)

    return connect
