"""Bare Celery: the same steps as canvases, results in Redis. It keeps no state of its own."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Queue

from benchmarks import floor

app = Celery(
    "bare",
    broker=os.environ.get("BARE_URL"),
    backend=os.environ.get("BARE_URL"),
    set_as_current=False,
)
app.conf.update(
    task_default_queue="prefork",
    task_queues=[Queue("prefork"), Queue("threads")],
    worker_prefetch_multiplier=1,
    result_expires=600,
    broker_connection_retry_on_startup=True,
    task_serializer="json",
    accept_content=["json"],
)


@app.task(name="bare.step")
def step() -> None:
    floor.step()
