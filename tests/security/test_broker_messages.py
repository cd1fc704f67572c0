"""Whoever can write to the broker can cost a worker a bell, and nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import resource
import time
from collections.abc import Callable
from typing import Any

import amqp
import pytest
import redis
from kombu import Connection

from apps.jobs import bells
from engine.orders import StepOutcome, Verdict
from stroem_project.celery import app as publishing
from tests.apps.jobs.builders import until
from tests.workers.fakes import FakeLedger, FakeRunner, claim
from tests.workers.rabbit import Rabbit

QUEUE = bells.queue_name("script")
UNPACKED = 256 * 1024 * 1024
BOMB = gzip.compress(b"[" + b" " * UNPACKED + b"]")
OK = StepOutcome(Verdict.SUCCEEDED, 0)
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
BODY = json.dumps([["script"], {}, EMBED]).encode()
HEADERS = {"task": bells.TASK, "id": "1"}

BODIES: list[tuple[str, dict[str, Any], bytes]] = [
    ("application/json", HEADERS, json.dumps(value).encode())
    for value in (
        None, 7, "script", [], {}, [["script"]], [[7], {}, EMBED], [["script", "gpu"], {}, EMBED],
        [["gpu"], {}, EMBED], [["script"], {"x": 1}, EMBED], [["script"], {}, {}],
        {"task": bells.TASK, "args": ["script"], "id": "1"},
    )
] + [
    ("application/json", HEADERS, b"\xff\xfe"),
    ("application/json", HEADERS, b"[" * 60_000),
    ("application/json", HEADERS, BODY + b" " * 70_000),
    ("application/x-python-serialize", HEADERS, BODY),
    ("application/json", {}, BODY),
    ("application/json", {"task": "os.system", "id": "1"}, BODY),
    ("application/json", {"task": ["x"], "id": {}}, BODY),
    ("application/json", {**HEADERS, "compression": "application/x-gzip"}, BOMB),
    ("application/json", {**HEADERS, "compression": 7}, BODY),
]  # fmt: skip
RAW = [
    b"", b"null", b"7", b'"x"', b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b"{" + b" " * 200_000,
    b'{"body": 7}', b'{"body": "%", "content-type": "application/json", "headers": {}}',
    b'{"properties": null}', b'{"properties": {"delivery_info": 7}, "body": {"__type__": 3}}',
    b'{"__type__": "decimal", "__value__": "x"}', b"1" * 5000,
]  # fmt: skip


def worker(bench: Callable[..., Any], **options: Any) -> Any:
    """A worker that hardly ever polls and has looked once."""
    parts = bench(FakeLedger(), FakeRunner(), slots=1, poll_interval_secs=3600.0, **options)
    parts.steps._last_work = time.monotonic() - 3600
    parts.start()
    until(lambda: parts.worker.is_listening and parts.ledger.calls.count("claim") >= 1)
    return parts


def hears(parts: Any, written: int) -> None:
    """It dropped everything on the connection that it had, and hears a bell as before."""
    consumer = parts.worker._ear._consumer
    until(lambda: parts.worker._ear.dropped == written)
    parts.ledger.ready.append(claim(1))
    assert bells.ring({"script": 1}) == 1
    parts.ledger.wait_for(lambda: len(parts.ledger.reports) == 1)
    assert consumer is not None
    assert parts.worker._ear._consumer is consumer


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_worker_drops_what_is_no_bell_and_goes_on(
    bench: Callable[..., Any], broker_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    parts, before = worker(bench), peak()
    properties = {
        "delivery_tag": "1", "body_encoding": "base64", "priority": 0,
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
    }  # fmt: skip
    envelopes = [
        {
            "body": base64.b64encode(body).decode(), "content-type": kind, "headers": headers,
            "content-encoding": "utf-8", "properties": properties,
        }
        for kind, headers, body in BODIES
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING):
        for raw in [*RAW, *(json.dumps(one).encode() for one in envelopes)]:
            broker_client.lpush("stroem:" + QUEUE, raw)
        hears(parts, len(RAW) + len(envelopes))
    told = [one.getMessage() for one in caplog.records if "not a bell" in one.getMessage()]
    assert len(told) == 1
    assert QUEUE in told[0]
    assert peak() - before < UNPACKED / 2
    assert broker_client.hlen("stroem:unacked") == 0


def test_nothing_that_others_call_unacknowledged_is_restored(
    bench: Callable[..., Any], broker_client: redis.Redis
) -> None:
    parts = worker(bench)
    broker_client.hset("stroem:unacked", "1", "no message")
    broker_client.zadd("stroem:unacked_index", {"1": 1.0})
    parts.worker._ear._consumer.task_consumer.channel.qos.restore_visible(interval=1)
    hears(parts, 0)


class Garbled(amqp.Message):
    """Its content type is no UTF-8."""

    def _serialize_properties(self) -> bytes:
        return b"\x80\x00\x02\xff\xfe"


@pytest.mark.rabbitmq
def test_a_worker_on_rabbitmq_drops_what_is_no_bell_and_goes_on(
    bench: Callable[..., Any], celery_app: Any, rabbit: Rabbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = bells._Ringer()
    monkeypatch.setattr(bells, "_ringer", fresh)
    for name, value in (
        ("broker_url", rabbit.url),
        ("broker_heartbeat", 10),
        ("broker_transport_options", {}),
    ):
        monkeypatch.setitem(publishing.conf, name, value)
        monkeypatch.setitem(celery_app.conf, name, value)
    parts, before = worker(bench), peak()
    with Connection(rabbit.url) as connection:
        channel: Any = connection.default_channel
        for kind, headers, body in BODIES:
            message = amqp.Message(body, content_type=kind, application_headers=headers)
            channel.basic_publish(message, exchange="", routing_key=QUEUE)
        channel.basic_publish(amqp.Message(b""), exchange="", routing_key=QUEUE)
        channel.basic_publish(Garbled(BODY), exchange="", routing_key=QUEUE)
        hears(parts, len(BODIES) + 2)
    assert peak() - before < UNPACKED / 2
    fresh._drop()
