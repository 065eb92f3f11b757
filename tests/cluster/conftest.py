"""Each test gets a cluster of its own: it is going to be hurt."""

import pytest
from kit import cluster as clusters


@pytest.fixture
def cluster(binary, tmp_path):
    with clusters.Cluster(binary, tmp_path) as made:
        yield made


@pytest.fixture
def single(binary, tmp_path):
    with clusters.Cluster(binary, tmp_path, size=1) as made:
        yield made
