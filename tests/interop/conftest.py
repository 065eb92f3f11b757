"""Each test gets a producer's node and a consumer's node; who hurts a node gets a cluster of its own."""

from dataclasses import dataclass

import pytest
from kit import cluster as clusters


@dataclass(frozen=True)
class Side:
    """A node as a client names it."""

    host: str
    port: int

    @property
    def url(self):
        return f"amqp://guest:guest@{self.host}:{self.port}/%2F"


@pytest.fixture(params=["producer on node 1", "producer on node 2", "producer on node 3"])
def sides(request, broker):
    """(producer, consumer), on different nodes when there are several; each node is the producer's once."""
    shift = int(request.param[-1]) - 1
    if shift >= len(broker.addresses):
        pytest.skip("the broker has fewer nodes")
    count = len(broker.addresses)
    return Side(*broker.addresses[shift]), Side(*broker.addresses[(shift + 1) % count])


@pytest.fixture
def cluster(binary, tmp_path):
    """Three nodes for one test."""
    with clusters.Cluster(binary, tmp_path) as made:
        yield made
