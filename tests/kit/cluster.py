"""Clusters of real `warren server` processes on free loopback ports, with data in a directory of the test's.

Nodes are started from the main thread: they ask the kernel to be killed with the thread that started them,
so that an interrupted run leaves nothing behind.
"""

import base64
import contextlib
import ctypes
import json
import os
import random
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from .wait import eventually

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 90.0  # first start of a debug build on a busy two-core machine
_ALIVE = []  # clusters whose logs a failing test shows


def find_binary():
    """The broker to test: $WARREN_BIN, else what cargo built last in the dev or release profile."""
    if given := os.environ.get("WARREN_BIN"):
        return Path(given)
    homes = [os.environ.get("CARGO_TARGET_DIR"), Path.home() / ".cache/warren/target", ROOT / "target"]
    for home in filter(None, homes):
        for profile in ("debug", "release"):
            path = Path(home) / profile / "warren"
            if path.exists():
                return path
    return None


_taken = set()


def free_port():
    """A loopback port nobody listens on, below the range the kernel hands out for outgoing connections."""
    while True:
        port = random.randint(20000, 32000)
        if port in _taken:
            continue
        with contextlib.closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def _die_with_parent(files_max=None):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if files_max:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))


class Node:
    """One process, its ports and its data directory."""

    def __init__(self, cluster, name, directory, seeds=None, options=()):
        """`seeds`: the cluster addresses of a formed cluster that it is to join; none for a first member."""
        self.cluster, self.name, self.directory = cluster, name, directory
        self.seeds, self.options = seeds, list(options)
        self.amqp_port, self.cluster_port, self.http_port, self.metrics_port = (free_port() for _ in range(4))
        self.log_path = directory / f"{name}.log"
        self.process = None
        self.paused = False
        self.secret_path = None  # instead of the cluster's
        self.files_max = None  # the limit of open files, if not this process's own

    def __repr__(self):
        return f"<{self.name} amqp={self.amqp_port} http={self.http_port}>"

    @property
    def address(self):
        return "127.0.0.1", self.amqp_port

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self):
        """Starts the process; does not wait until it is ready."""
        assert not self.running, f"{self.name} runs already"
        command = [
            str(self.cluster.binary), "server",
            "--data-dir", str(self.data_path),
            "--node-name", self.name,
            "--amqp-listen", f"127.0.0.1:{self.amqp_port}",
            "--cluster-listen", f"127.0.0.1:{self.cluster_port}",
            "--cluster-advertise", f"127.0.0.1:{self.cluster_port}",
            "--http-listen", f"127.0.0.1:{self.http_port}",
            "--metrics-listen", f"127.0.0.1:{self.metrics_port}",
        ]  # fmt: skip
        if self.cluster.secret_path:
            command += ["--cluster-secret-file", str(self.secret_path or self.cluster.secret_path)]
        command += self.options
        if self.seeds is not None:
            command += ["--seeds", ",".join(self.seeds), "--expect", "1"]
        elif len(self.cluster.nodes) > 1:
            seeds = ",".join(f"127.0.0.1:{n.cluster_port}" for n in self.cluster.nodes)
            command += ["--seeds", seeds, "--expect", str(len(self.cluster.nodes))]
        with open(self.log_path, "ab") as log:
            log.write(f"--- start {time.strftime('%H:%M:%S')} {' '.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=lambda: _die_with_parent(self.files_max)
            )
        self.paused = False

    @property
    def data_path(self):
        return self.directory / f"{self.name}-data"

    def wipe(self):
        """Takes its data; it must not run."""
        assert not self.running
        shutil.rmtree(self.data_path)

    def ask(self, *arguments, timeout_s=120.0):
        """Runs one of the operator's commands against this node: its exit status, and what it printed."""
        command = [str(self.cluster.binary), *arguments, "--node", f"http://127.0.0.1:{self.http_port}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        return done.returncode, done.stdout + done.stderr

    def kill(self):
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s=60.0):
        """SIGTERM; returns the exit status."""
        self.resume()
        self.process.terminate()
        return self.process.wait(timeout=timeout_s)

    def pause(self):
        """SIGSTOP: the node is silent, its sockets stay open."""
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True
        # The signal takes each thread when it next runs: until then it may still answer.
        tasks = Path(f"/proc/{self.process.pid}/task")
        eventually(
            lambda: all((task / "stat").read_text().rsplit(")", 1)[1].split()[0] == "T" for task in tasks.iterdir()),
            f"{self.name} has stopped", every_s=0.001,
        )  # fmt: skip

    def resume(self):
        if self.paused and self.running:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    def http(self, path, timeout_s=5.0):
        """The JSON answer of this node's HTTP API, as guest."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}")
        request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return json.load(answer)

    def is_ready(self):
        """Whether it serves clients and is in contact with a majority."""
        url = f"http://127.0.0.1:{self.http_port}/api/health/checks/ready-to-serve-clients"
        try:
            with urllib.request.urlopen(url, timeout=2.0) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self, timeout_s=READY_TIMEOUT_S):
        def probe():
            if not self.running:
                raise RuntimeError(f"{self.name} ended with status {self.process.poll()}:\n{self.log_tail()}")
            return self.is_ready()

        eventually(probe, f"{self.name} is ready to serve clients", timeout_s, every_s=0.1)

    def log_tail(self, lines=40):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def resident_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Cluster:
    """`size` nodes that know each other. Use as a context manager, or call `start` and `destroy`.

    They prove themselves with a secret and encrypt; with `secured=False` they do neither, which works on loopback.
    """

    def __init__(self, binary, directory, size=3, secured=True):
        self.binary, self.directory = Path(binary), Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.secret_path = None
        if secured:
            self.secret_path = self.directory / "cluster.secret"
            self.secret_path.write_text(secrets.token_urlsafe(32) + "\n")
        self.nodes = []
        self.nodes = [Node(self, f"n{i + 1}", self.directory) for i in range(size)]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.destroy()

    def start(self):
        _ALIVE.append(self)
        for node in self.nodes:
            node.start()
        self.wait_ready()
        return self

    def wait_ready(self):
        for node in self.running():
            node.wait_ready()

    def add_node(self, name=None, options=()):
        """Starts a fresh node that joins the cluster; does not wait until it is ready."""
        seeds = [f"127.0.0.1:{n.cluster_port}" for n in self.running()]
        node = Node(self, name or f"n{len(self.nodes) + 1}", self.directory, seeds, options)
        self.nodes.append(node)
        node.start()
        return node

    def shards(self):
        """The shards as any running node sees them, without the metadata group."""
        return [shard for shard in self.ask("/api/warren/shards") if shard["shard"] is not None]

    def ask(self, path):
        """The answer of any running node's HTTP API."""
        last = None
        for node in self.running():
            try:
                return node.http(path)
            except (OSError, urllib.error.URLError) as error:
                last = error
        raise last or OSError("no node runs")

    def destroy(self):
        """Ends what still runs, without waiting for it to drain."""
        for node in self.nodes:
            if node.running:
                node.kill()
        if self in _ALIVE:
            _ALIVE.remove(self)

    def running(self):
        return [n for n in self.nodes if n.running and not n.paused]

    def node(self, name):
        return next(n for n in self.nodes if n.name == name)

    def addresses(self):
        return [n.address for n in self.nodes]

    def queue(self, name, vhost="/"):
        """What the HTTP API of any running node says of a queue."""
        return self.ask(f"/api/queues/{urllib.parse.quote(vhost, '')}/{urllib.parse.quote(name, '')}")

    def leader_of(self, queue, timeout_s=60.0):
        """The running node that leads the queue now."""

        def probe():
            leader = self.queue(queue).get("leader")
            return next((n for n in self.running() if n.name == leader), None)

        return eventually(probe, f"a running node leads queue '{queue}'", timeout_s, every_s=0.1)


def failure_report():
    """The ends of the logs of all clusters that are alive, for a failing test."""
    for cluster in _ALIVE:
        for node in cluster.nodes:
            state = "runs" if node.running else f"ended ({node.process.poll() if node.process else 'never started'})"
            yield f"log of {node.name} ({state})", node.log_tail(60)
