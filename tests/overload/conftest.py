"""What each scenario of overload is watched with: a bystander, the nodes' memory and descriptors, their logs."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kit import cluster as clusters
from kit.wait import eventually

MIB = 1024 * 1024
_rows = []


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="tests/overload: full sizes, and the scenarios that take long")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--full"):
        skip = pytest.mark.skip(reason="takes long: --full")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)


def pytest_terminal_summary(terminalreporter):
    if _rows:
        terminalreporter.section("overload")
        terminalreporter.write_line("| Scenario | Memory before | peak | after, MiB | Worst confirm | delivery of the bystander |")
        terminalreporter.write_line("| --- | --- | --- | --- | --- | --- |")
        for row in _rows:
            terminalreporter.write_line(row)


class Watched:
    """One node during one scenario."""

    def __init__(self, node):
        self.node, self.pid = node, node.process.pid
        # From here on the kernel notes the peak anew.
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        self.before = node.resident_bytes()
        self.sockets_before = self.sockets()
        self.peak = self.before

    def sockets(self):
        """Descriptors of sockets; those of files are the store's, which opens and closes them as it likes."""
        count = 0
        for entry in os.scandir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                count += os.readlink(entry.path).startswith("socket:")
        return count

    def look(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                self.peak = max(self.peak, int(line.split()[1]) * 1024)

    def is_back(self, slack):
        return self.node.resident_bytes() <= self.before + slack


class Lab:
    """A cluster that is to be overloaded. `full` says whether in full size."""

    def __init__(self, cluster, full, title):
        self.cluster, self.full, self.title = cluster, full, title

    @property
    def nodes(self):
        return self.cluster.nodes

    def size(self, small, full):
        return full if self.full else small

    @contextlib.contextmanager
    def watch(self, grows_mib, left_mib=None, bystander=True, nodes=None, what=""):
        """Whatever happens inside: no node grows by more than `grows_mib`, none ends or panics, the bystander is served.
        Afterwards all descriptors are given back, and memory but for `left_mib` (half of `grows_mib`, if not said)."""
        watched = [Watched(n) for n in (nodes or self.cluster.running())]
        # The bystander's own four sockets come and go with it.
        process = self._bystander() if bystander else None
        failed = True
        try:
            yield
            failed = False
        finally:
            seen = self._dismiss(process)
            for one in watched:
                if one.node.running:
                    one.look()
            if not failed:
                self._judge(watched, seen, grows_mib, grows_mib / 2 if left_mib is None else left_mib, what)

    def _judge(self, watched, seen, grows_mib, left_mib, what):
        for one in watched:
            assert one.node.running and one.node.process.pid == one.pid, f"{one.node.name} ended:\n{one.node.log_tail()}"
            log = one.node.log_path.read_text(errors="replace")
            assert "panicked" not in log, log[log.index("panicked") - 500 :][:3000]
        with contextlib.suppress(AssertionError):
            eventually(lambda: all(o.is_back(left_mib * MIB) for o in watched), "memory is given back", timeout_s=10, every_s=0.5)
        most = max(watched, key=lambda o: o.peak - o.before)
        after = most.node.resident_bytes()
        row = f"| {self.title}{' ' + what if what else ''} | {most.before // MIB} | {most.peak // MIB} | {after // MIB} "
        if seen:
            row += f"| {seen['worst_confirm_s'] * 1000:.0f} ms | {seen['worst_delivery_s'] * 1000:.0f} ms ({seen['confirmed']}) |"
        else:
            row += "| - | - |"
        _rows.append(row)
        if seen:
            assert not seen["errors"], seen
            assert seen["confirmed"] == seen["received"] > 0, seen
        assert most.peak <= most.before + grows_mib * MIB, row
        assert all(o.is_back(left_mib * MIB) for o in watched), row
        eventually(lambda: all(o.sockets() <= o.sockets_before + 12 for o in watched), "descriptors are given back", timeout_s=30)

    def _bystander(self):
        nodes = self.cluster.running()
        to, via = (f"127.0.0.1:{n.amqp_port}" for n in (nodes[0], nodes[-1]))
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bystander.py")), to, via, "bystander"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout.readline() == "ready\n", "the bystander came in"
        time.sleep(0.3)
        return process

    def _dismiss(self, process):
        if process is None:
            return None
        out, _ = process.communicate(timeout=110)
        return json.loads(out.splitlines()[-1])


def _title(request):
    return request.node.name.removeprefix("test_").replace("_", " ")


@pytest.fixture(scope="session")
def shared(binary, tmp_path_factory):
    with clusters.Cluster(binary, tmp_path_factory.mktemp("overload")) as cluster:
        yield cluster


@pytest.fixture
def lab(shared, request):
    """The three nodes that the scenarios share; those that a scenario has ended are started again."""
    for node in shared.nodes:
        if not node.running:
            node.start()
    shared.wait_ready()
    return Lab(shared, request.config.getoption("--full"), _title(request))


@pytest.fixture(scope="session")
def unsecured(binary, tmp_path_factory):
    with clusters.Cluster(binary, tmp_path_factory.mktemp("unsecured"), secured=False) as cluster:
        yield cluster


@pytest.fixture
def open_lab(unsecured, request):
    """Three nodes that ask each other for no secret."""
    return Lab(unsecured, request.config.getoption("--full"), _title(request))


@pytest.fixture
def own_lab(binary, tmp_path, request):
    """Makes a cluster of one's own: `own_lab(size, files_max=..., **environment)`."""
    stack = contextlib.ExitStack()

    def make(size=1, files_max=None, options=(), **environment):
        cluster = clusters.Cluster(binary, tmp_path, size=size)
        for node in cluster.nodes:
            node.files_max, node.options = files_max, list(options)
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            stack.enter_context(cluster)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return Lab(cluster, request.config.getoption("--full"), _title(request))

    with stack:
        yield make
