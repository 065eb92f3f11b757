"""A Celery application: `BROKER_URL` and `TASK_QUEUE` say where it lives. Workers and callers both import it."""

import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["BROKER_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["TASK_QUEUE"],
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
)


@app.task
def add(left, right):
    return left + right


@app.task(bind=True, max_retries=3)
def succeeds_at_the_third_attempt(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(bind=True)
def long(self, started_file):
    """Takes a minute, unless it was begun before: then it tells whether the broker said so."""
    if os.path.exists(started_file):
        return self.request.delivery_info["redelivered"]
    with open(started_file, "w"):
        pass
    time.sleep(60)
    return "not interrupted"
