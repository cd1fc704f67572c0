"""Bells over RabbitMQ, which is lost, emptied and restarted in its own ways."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from apps.jobs import bells
from engine.orders import StepOutcome, Verdict
from stroem_project.celery import app as publishing
from tests.workers.fakes import FakeLedger, FakeRunner, claim
from tests.workers.rabbit import PROGRAM, Rabbit

pytestmark = pytest.mark.rabbitmq
OK = StepOutcome(Verdict.SUCCEEDED, 0)


def eventually(condition, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory) -> Iterator[Rabbit]:
    if not Path(PROGRAM).exists():
        pytest.skip("RabbitMQ is not installed")
    server = Rabbit(tmp_path_factory.mktemp("rabbit"))
    server.start()
    yield server
    server.close()


@pytest.fixture
def ledger(rabbit, bench, celery_app, monkeypatch) -> FakeLedger:
    """The ledger of a worker of one slot that listens on RabbitMQ and hardly ever polls."""
    fresh = bells._Ringer()
    monkeypatch.setattr(bells, "_ringer", fresh)
    for name, value in (
        ("broker_url", rabbit.url),
        ("broker_heartbeat", 10),
        ("broker_transport_options", {}),
    ):
        monkeypatch.setitem(publishing.conf, name, value)
        monkeypatch.setitem(celery_app.conf, name, value)
    with Connection(rabbit.url) as connection:
        bells.queue("script")(connection.default_channel).delete()
    ledger = FakeLedger()
    ledger.parts = bench(ledger, FakeRunner(), slots=1, poll_interval_secs=3600.0)
    ledger.parts.worker._last_work = time.monotonic() - 3600
    ledger.parts.start()
    eventually(lambda: ledger.parts.worker.is_listening)
    eventually(lambda: ledger.calls.count("claim") >= 1)  # the look at the start
    yield ledger
    fresh._drop()


def test_a_bell_starts_a_step_at_once(ledger):
    ledger.ready.append(claim(1))
    began = time.monotonic()
    assert bells.ring({"script": 1}) == 1
    ledger.wait_for(lambda: len(ledger.reports) == 1)
    assert time.monotonic() - began < 1.0


def test_a_deleted_queue_is_there_again_for_both_sides(ledger, rabbit):
    with Connection(rabbit.url) as connection:
        bells.queue("script")(connection.default_channel).delete()
    eventually(lambda: ledger.parts.worker.is_listening)

    ledger.ready.append(claim(1))

    def is_heard() -> bool:
        ledger.parts.worker.refresh_tag_sets()  # as every ten seconds
        bells.ring({"script": 1})
        return len(ledger.reports) == 1

    eventually(is_heard)


def test_a_busy_worker_holds_no_more_bells_than_it_has_slots(ledger, rabbit):
    go = threading.Event()
    ledger.parts.runner.act = lambda order, lines, stop: (go.wait(20), OK)[1]
    ledger.ready.append(claim(1))
    bells.ring({"script": 1})
    ledger.wait_for(lambda: "started" in ledger.calls)

    def left() -> int:
        with Connection(rabbit.url) as connection:
            return (
                bells.queue("script")(connection.default_channel)
                .queue_declare(passive=True)
                .message_count
            )

    bells.ring({"script": 4})
    eventually(lambda: 3 <= left() <= 5)
    go.set()
    eventually(lambda: left() == 0)


def test_a_worker_hears_again_soon_after_a_killed_broker_is_back(ledger, rabbit):
    rabbit.kill()
    began = time.monotonic()
    assert bells.ring({"script": 1}) == 0
    assert time.monotonic() - began < 1.0
    rabbit.start()
    eventually(lambda: ledger.parts.worker.is_listening)
    ledger.ready.append(claim(1))
    eventually(lambda: bells.ring({"script": 1}) == 1)
    ledger.wait_for(lambda: len(ledger.reports) == 1, timeout_s=5)
