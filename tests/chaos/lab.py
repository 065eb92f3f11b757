"""A cluster with a network and disks that can be broken: each node in a network namespace of its own, behind one bridge,
its data on an ext4 file system of its own in a loop device. Needs root. What it makes is undone by `close`.
"""

import atexit
import base64
import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from kit.wait import eventually

HERE = Path(__file__).resolve().parent
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
# From the kernel's ext4.h; 2: without writing the journal, as when the power goes.
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
AMQP, HTTP, CLUSTER, METRICS = 5672, 15672, 25672, 15692

DISK_MODES = {
    "well": 0, "sync-eio": 1, "write-eio": 2, "write-enospc": 3, "sync-slow": 4, "read-eio": 5, "write-torn": 6,
    "sync-hang": 7,
}  # fmt: skip


def run(*command, check=True, **options):
    """Runs a command; its output is in the error if it fails."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def missing():
    """Why this machine has no laboratory; None if it has."""
    if os.geteuid() != 0:
        return "needs root for network namespaces and loop devices"
    for tool in ("ip", "nft", "losetup", "mkfs.ext4", "mount", "tc"):
        if shutil.which(tool) is None:
            return f"needs the program '{tool}'"
    return None


class Node:
    """One node: a namespace, an address, a disk, a process."""

    def __init__(self, lab, number):
        self.lab, self.number, self.name = lab, number, f"n{number}"
        self.ip = f"{lab.network}.{number}"
        self.namespace, self.veth = f"{lab.tag}n{number}", f"{lab.tag}v{number}"
        self.image, self.mount = lab.images / f"{lab.tag}n{number}.img", lab.directory / f"n{number}"
        self.data = self.mount / "data"
        self.log_path = lab.directory / f"n{number}.log"
        self.control = lab.directory / f"n{number}.fault"
        self.clock = lab.directory / f"n{number}.clock"
        self.process, self.paused, self.loop = None, False, None
        self.environment = {}

    def __repr__(self):
        return self.name

    @property
    def address(self):
        return self.ip, AMQP

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    # The process.

    def start(self):
        """Starts it; does not wait."""
        assert not self.running, f"{self.name} runs already"
        lab = self.lab
        command = [
            str(lab.binary), "server", "--data-dir", str(self.data), "--node-name", self.name,
            "--amqp-listen", f"{self.ip}:{AMQP}", "--cluster-listen", f"{self.ip}:{CLUSTER}",
            "--cluster-advertise", f"{self.ip}:{CLUSTER}", "--http-listen", f"{self.ip}:{HTTP}",
            "--metrics-listen", "none", "--guest-loopback-only", "false",
            "--seeds", ",".join(f"{n.ip}:{CLUSTER}" for n in lab.nodes), "--expect", str(len(lab.nodes)),
            *lab.options,
        ]  # fmt: skip
        environment = {**os.environ, **self.environment}
        preload = []
        if lab.faultdisk:
            self.disk("well")
            preload.append(str(lab.faultdisk))
            environment |= {"WARREN_FAULTDISK": str(self.control), "WARREN_FAULTDISK_DIR": f"{self.mount}/"}
        if self.clock.exists():
            preload.append(str(lab.faketime))
            environment |= {
                "FAKETIME_TIMESTAMP_FILE": str(self.clock), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }  # fmt: skip
        if preload:
            environment["LD_PRELOAD"] = ":".join(preload)
        namespace = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY | os.O_CLOEXEC)

        def enter():
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if LIBC.setns(namespace, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

        with open(self.log_path, "ab") as log:
            log.write(f"--- start {time.strftime('%H:%M:%S')}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, preexec_fn=enter
            )
        os.close(namespace)
        self.paused = False

    def kill(self):
        """`kill -9`."""
        self.process.kill()
        self.process.wait()
        self.paused = False

    def stop(self, timeout_s=60.0):
        """SIGTERM; returns the exit status."""
        self.resume()
        self.process.terminate()
        return self.process.wait(timeout=timeout_s)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        self.paused = True

    def resume(self):
        if self.paused and self.running:
            self.process.send_signal(signal.SIGCONT)
        self.paused = False

    # What it says.

    def http(self, path, timeout_s=3.0, login=True):
        request = urllib.request.Request(f"http://{self.ip}:{HTTP}{path}")
        if login:
            request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return json.load(answer)

    def is_ready(self):
        try:
            self.http("/api/health/checks/ready-to-serve-clients", login=False)
            return True
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self, timeout_s=120.0):
        def probe():
            if not self.running:
                raise RuntimeError(f"{self.name} ended with {self.process.poll()}:\n{self.log_tail()}")
            return self.is_ready()

        eventually(probe, f"{self.name} is ready", timeout_s, every_s=0.1)

    def log_tail(self, lines=30):
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def resident_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    # Its disk.

    def make_disk(self, megabytes):
        with open(self.image, "wb") as image:
            image.truncate(megabytes << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", self.image)
        self.mount.mkdir(exist_ok=True)
        self.loop = run("losetup", "--find", "--show", self.image).strip()
        self._mount()

    def _mount(self):
        # Nothing is written back behind our back: what is not synced stays in memory, and goes with the power.
        run("mount", "-o", "commit=300", self.loop, self.mount)

    def disk(self, mode, argument=0):
        """How the disk behaves from now on; see faultdisk.c."""
        if not self.control.exists():
            self.control.write_bytes(bytes(4096))
        with open(self.control, "r+b") as control:
            control.seek(4)
            control.write(struct.pack("=I", argument))
            control.flush()
            control.seek(0)
            control.write(struct.pack("=I", DISK_MODES[mode]))

    def power_off(self, process_first=True):
        """Everything that is not on the disk is gone: the process, and what the system has not written yet."""
        if process_first and self.running:
            self.kill()
        where = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(where, EXT4_IOC_SHUTDOWN, struct.pack("=I", NO_LOG_FLUSH))
        finally:
            os.close(where)
        if self.running:
            self.kill()
        run("umount", self.mount)

    def power_on(self):
        """Mounts the disk again, which replays its journal. The process is to be started then."""
        self._mount()

    def wipe(self):
        """An empty data directory."""
        assert not self.running
        shutil.rmtree(self.data, ignore_errors=True)

    def free_bytes(self):
        return shutil.disk_usage(self.mount).free

    def set_clock(self, offset):
        """The node's wall clock, such as `+3600s`; takes effect at once if the clock was set before its start."""
        draft = self.clock.with_suffix(".new")
        draft.write_text(offset + "\n")
        draft.rename(self.clock)


class Lab:
    """The whole of it; a context manager."""

    def __init__(self, binary, directory, size=3, disk_mb=2048, options=()):
        self.binary, self.directory, self.options = Path(binary), Path(directory), list(options)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.tag, self.disk_mb = f"wc{os.getpid() % 100000}", disk_mb
        self.network = f"10.213.{os.getpid() % 250}"
        self.bridge, self.table = f"{self.tag}b", f"{self.tag}t"
        # In memory if there is room: then one node's disk does not wait for another's, nor for the machine's.
        memory = Path("/dev/shm")
        roomy = memory.is_dir() and shutil.disk_usage(memory).free > size * disk_mb << 20
        self.images = memory if roomy else self.directory
        self.nodes = [Node(self, number) for number in range(1, size + 1)]
        self.faultdisk = self._build_faultdisk()
        self.faketime = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)

    def _build_faultdisk(self):
        if shutil.which("cc") is None:
            return None
        target = self.directory / "faultdisk.so"
        run("cc", "-shared", "-fPIC", "-O1", "-o", target, HERE / "faultdisk.c", "-ldl")
        return target

    def __enter__(self):
        atexit.register(self.close)
        try:
            self._network()
            for node in self.nodes:
                node.make_disk(self.disk_mb)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready()
        return self

    def close(self):
        """Undoes everything, as far as it was made."""
        atexit.unregister(self.close)
        for node in self.nodes:
            if node.running:
                node.kill()
        for node in self.nodes:
            run("umount", node.mount, check=False)
            if node.loop:
                run("losetup", "-d", node.loop, check=False)
            run("ip", "netns", "del", node.namespace, check=False)
            run("ip", "link", "del", node.veth, check=False)
            with contextlib.suppress(OSError):
                node.image.unlink()
        run("nft", "delete", "table", "bridge", self.table, check=False)
        run("ip", "link", "del", self.bridge, check=False)

    def node(self, name):
        return next(node for node in self.nodes if node.name == name)

    def running(self):
        return [node for node in self.nodes if node.running and not node.paused]

    def addresses(self):
        return [node.address for node in self.nodes]

    def others(self, *some):
        return [node for node in self.nodes if node not in some]

    # What the cluster says.

    def ask(self, path, nodes=None):
        last = None
        for node in nodes or self.running():
            try:
                return node.http(path)
            except (OSError, urllib.error.URLError) as error:
                last = error
        raise last or OSError("no node runs")

    def leader_of(self, queue, timeout_s=60.0, nodes=None):
        """The running node that leads the queue."""
        path = "/api/queues/%2F/" + urllib.parse.quote(queue, "")

        def probe():
            leader = self.ask(path, nodes).get("leader")
            return next((n for n in self.running() if n.name == leader), None)

        return eventually(probe, f"a running node leads '{queue}'", timeout_s, every_s=0.1)

    # The network.

    def _network(self):
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.network}.254/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for node in self.nodes:
            inside = f"{self.tag}i{node.number}"
            run("ip", "netns", "add", node.namespace)
            run("ip", "link", "add", node.veth, "type", "veth", "peer", "name", inside)
            run("ip", "link", "set", inside, "netns", node.namespace)
            run("ip", "link", "set", node.veth, "master", self.bridge, "up")
            within = ("ip", "-n", node.namespace)
            run(*within, "link", "set", "lo", "up")
            run(*within, "addr", "add", f"{node.ip}/24", "dev", inside)
            run(*within, "link", "set", inside, "up")
        pairs = "ether type ip ip saddr . ip daddr @cut drop"
        lossy = "ether type ip ip saddr @lossy numgen random mod 100 < 15 drop"
        rules = [
            f"table bridge {self.table} {{",
            "set cut { type ipv4_addr . ipv4_addr; }",
            "set lossy { type ipv4_addr; }",
        ]
        for hook in ("forward", "input", "output"):
            drop = f"{pairs}; {lossy}" if hook == "forward" else pairs
            rules.append(f"chain {hook} {{ type filter hook {hook} priority 0; {drop}; }}")
        run("nft", "-f", "-", input="\n".join([*rules, "}"]))

    def cut(self, sources, targets, both=True):
        """Nothing gets from `sources` to `targets` any more, nor back if `both`. Connections stay open."""
        pairs = {(a.ip, b.ip) for a in sources for b in targets}
        if both:
            pairs |= {(b, a) for a, b in pairs}
        elements = ", ".join(f"{a} . {b}" for a, b in sorted(pairs))
        run("nft", "add", "element", "bridge", self.table, "cut", f"{{ {elements} }}")

    def cut_clients(self, nodes):
        """The clients do not reach these nodes, nor hear them."""
        clients = f"{self.network}.254"
        elements = ", ".join(f"{clients} . {n.ip}, {n.ip} . {clients}" for n in nodes)
        run("nft", "add", "element", "bridge", self.table, "cut", f"{{ {elements} }}")

    def heal(self):
        """The network is whole."""
        run("nft", "flush", "set", "bridge", self.table, "cut")
        run("nft", "flush", "set", "bridge", self.table, "lossy")
        for node in self.nodes:
            run("tc", "qdisc", "del", "dev", node.veth, "root", check=False)

    def lossy(self, nodes):
        """Fifteen of a hundred packets that these nodes send to others are lost."""
        run("nft", "add", "element", "bridge", self.table, "lossy", f"{{ {', '.join(n.ip for n in nodes)} }}")

    def slow(self, nodes, rate="3mbit", latency="400ms"):
        """A narrow link to these nodes, with a queue before it: delay, and loss where it overflows."""
        for node in nodes:
            run("tc", "qdisc", "replace", "dev", node.veth, "root", "tbf", "rate", rate, "burst", "16kb",
                "latency", latency)  # fmt: skip
