"""Runs the tutorial programs against the nodes of the broker."""

import os
import sys
from pathlib import Path

import pytest
from kit import amqp
from kit.programs import Program

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("WARREN_CACHE", Path.home() / ".cache/warren"))
QUEUES = ("hello", "task_queue", "rpc_queue", "shared_work")


def interpreter(style):
    """The Python that has the pika of this style, and the environment it needs."""
    if style == "new":
        return sys.executable, {}
    venv = CACHE / ("venv-pika-0.13" if style == "old-0.13" else "venv-pika-0.10")
    python = venv / "bin/python"
    if not python.exists():
        pytest.skip(f"{venv} is missing: ./warren.sh test makes it")
    return python, {"PYTHONPATH": str(HERE / "old_style/shim")}


@pytest.fixture
def program(broker):
    """Starts tutorial programs; those that still run at the end are killed."""
    started = []

    def start(style, script, *arguments, node=0, **env):
        python, needed = interpreter(style)
        port = broker.addresses[node % len(broker.addresses)][1]
        folder = HERE / ("new_style" if style == "new" else "old_style")
        environment = {"AMQP_PORT": str(port), **needed, **env}
        started.append(Program([python, folder / script, *arguments], environment))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.fixture(autouse=True)
def clean(broker):
    """The programs' queues and exchanges have fixed names: they are deleted before and after."""
    _delete(broker)
    yield
    _delete(broker)


def _delete(broker):
    client = next((c for a in broker.addresses if (c := _try_login(a))), None)
    if client is None:
        return
    client.channel(1)
    for queue in QUEUES:
        client.call(1, "queue.delete", queue=queue)
    for kind in ("fanout", "direct", "topic"):
        client.call(1, "exchange.delete", exchange=f"logs_{kind}")
    client.close()


def _try_login(address):
    try:
        return amqp.Client(*address).login()
    except OSError:
        return None
