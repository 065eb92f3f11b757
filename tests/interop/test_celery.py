"""Celery: workers and callers on different nodes, with results, retries, delays, remote control and a killed worker."""

import os
import subprocess
import sys
from pathlib import Path

import kombu
import pytest
from kit import cluster as clusters
from kit.programs import Program
from kit.wait import eventually

APPLICATION = Path(__file__).resolve().parent / "celery_app"


class Application:
    """Starts workers of the application and runs callers of it."""

    def __init__(self, queue):
        self.queue, self.workers = queue, []

    def _environment(self, side):
        return {"BROKER_URL": side.url, "TASK_QUEUE": self.queue, "PYTHONPATH": str(APPLICATION)}

    def worker(self, side, node_name):
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "solo", "-l", "info",
                   "-n", f"{node_name}@{self.queue}"]  # fmt: skip
        # Celery warns whoever runs it as root.
        worker = Program(command, {**self._environment(side), "PYTHONWARNINGS": "ignore"})
        self.workers.append(worker)
        worker.expect(r".* ready\.")
        return worker

    def call(self, side, code):
        """Runs `code`, in which `tasks` is the application; returns what it prints."""
        done = subprocess.run(
            [sys.executable, "-c", f"import tasks\n{code}"],
            env={**os.environ, **self._environment(side)}, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def application(name):
    made = Application(name("tasks"))
    yield made
    for worker in made.workers:
        worker.kill()


def test_results_come_back_to_a_caller_on_another_node(application, sides):
    producer, consumer = sides
    worker = application.worker(consumer, "one")
    code = "print([r.get(timeout=60) for r in [tasks.add.delay(n, n) for n in range(20)]])"
    assert application.call(producer, code) == str([2 * n for n in range(20)])
    code = "print(tasks.succeeds_at_the_third_attempt.apply_async(countdown=0.5).get(timeout=60))"
    assert application.call(producer, code) == "2"
    code = f"print(tasks.app.control.ping(destination=['one@{application.queue}'], timeout=5, limit=1))"
    assert application.call(producer, code) == str([{f"one@{application.queue}": {"ok": "pong"}}])
    worker.process.terminate()
    worker.finish()


def test_the_task_of_a_killed_worker_is_done_by_another_one(application, sides, tmp_path):
    producer, consumer = sides
    started = tmp_path / "started"
    first = application.worker(consumer, "one")
    caller = Program(
        [sys.executable, "-c", f"import tasks; print(tasks.long.delay({str(started)!r}).get(timeout=90))"],
        application._environment(producer),
    )
    application.workers.append(caller)
    eventually(started.exists, "the first worker has begun")
    first.kill()
    application.worker(producer, "two")
    assert caller.finish() == ["True"]


def test_kombu_goes_on_to_the_next_address_of_its_list(sides, name):
    producer, consumer = sides
    queue, nobody = name(), f"amqp://guest:guest@127.0.0.1:{clusters.free_port()}//"
    with (
        kombu.Connection([nobody, producer.url], failover_strategy="round-robin") as sending,
        kombu.Connection(consumer.url) as receiving,
    ):
        sending.ensure_connection(max_retries=3, interval_start=0)
        sender, receiver = sending.SimpleQueue(queue), receiving.SimpleQueue(queue)
        for number in range(10):
            sender.put({"number": number, "text": "Grüße"}, headers={"of": queue}, compression="zlib")
        for number in range(10):
            message = receiver.get(timeout=20)
            assert message.payload == {"number": number, "text": "Grüße"}
            assert message.headers["of"] == queue
            message.ack()
        with pytest.raises(receiver.Empty):
            receiver.get_nowait()
        sender.close()
        receiver.close()
