"""Options and fixtures of all suites: which broker is tested, and clients that are cleaned up after."""

import itertools
import signal
import sys
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kit import amqp, cluster as clusters  # noqa: E402


def pytest_addoption(parser):
    parser.addoption(
        "--external", metavar="HOST:PORT[,HOST:PORT]", help="test a broker that runs already instead of our own"
    )
    parser.addoption(
        "--reference", action="store_true", help="the external broker is RabbitMQ 3.10: expect its known differences"
    )


class Broker:
    """What the wire-level suites talk to: addresses of one broker, ours or another."""

    def __init__(self, addresses, reference, cluster=None):
        self.addresses, self.reference, self.cluster = addresses, reference, cluster

    def differs(self, spec, rabbitmq_3_10):
        """What to expect where RabbitMQ 3.10, used to calibrate the tests, is not what we follow (4.x)."""
        return rabbitmq_3_10 if self.reference else spec


@pytest.fixture(scope="session")
def binary():
    """The broker's binary; the test is skipped aloud when there is none."""
    found = clusters.find_binary()
    if found is None:
        pytest.skip("no warren binary: run `cargo build` or set WARREN_BIN")
    return found


@pytest.fixture(scope="session")
def broker(request, tmp_path_factory):
    """A three-node cluster shared by the suites that only talk AMQP, or the external broker."""
    if given := request.config.getoption("--external"):
        addresses = [(host, int(port)) for host, port in (a.rsplit(":", 1) for a in given.split(","))]
        yield Broker(addresses, request.config.getoption("--reference"))
        return
    found = request.getfixturevalue("binary")
    with clusters.Cluster(found, tmp_path_factory.mktemp("shared")) as cluster:
        yield Broker(cluster.addresses(), False, cluster)


@pytest.fixture
def own_broker(broker):
    """The shared cluster; skips when an external broker is tested."""
    if broker.cluster is None:
        pytest.skip("needs the processes of our own cluster")
    return broker


@pytest.fixture
def raw(broker):
    """Makes sockets that are not logged in. Each one goes to the next node of the cluster."""
    made, addresses = [], itertools.cycle(broker.addresses)

    def connect(node=None, **options):
        address = next(addresses) if node is None else broker.addresses[node % len(broker.addresses)]
        client = amqp.Client(*address, **options)
        made.append(client)
        return client

    yield connect
    for client in made:
        client.abort()


@pytest.fixture
def connect(raw):
    """Makes logged-in connections. Each one goes to the next node of the cluster."""
    return lambda node=None, **options: raw(node).login(**options)


@pytest.fixture
def client(connect):
    """A connection with channel 1 open."""
    made = connect()
    made.channel(1)
    return made


@pytest.fixture
def name(request, broker):
    """Makes names that no other test uses. What bears them is deleted afterwards."""
    prefix = f"t-{uuid.uuid4().hex[:10]}"
    given = []

    def make(suffix="q"):
        given.append(f"{prefix}-{suffix}")
        return given[-1]

    yield make
    if not given:
        return
    with_channel = amqp.Client(*broker.addresses[0]).login()
    with_channel.channel(1)
    number = 1
    for one in given:
        for method in ("queue.delete", "exchange.delete"):
            key = method.split(".")[0]
            with_channel.send(number, method, **{key: one})
            if with_channel.recv().name == "channel.close":  # exclusive to a connection that is about to go
                with_channel.send(number, "channel.close-ok")
                number += 1
                with_channel.channel(number)
    with_channel.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs fails with a trace of where, instead of holding up all others."""
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else 120

    def hung(*_):
        raise AssertionError(f"hung: not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.extend(clusters.failure_report())
