"""Rings workers: sends messages to the queue of a tag set. A bell is only a hint: losing one costs
latency and nothing else.

Publishing is brief and never raises: failures are counted, and after one nothing is sent for a
moment, so a broker outage costs a caller at most one budget.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from apps.fleet import reach

if TYPE_CHECKING:
    from kombu import Connection, Exchange, Queue

PREFIX = "steps."
TASK = "workers.tasks.look"
BUDGET_S = 0.25
PAUSE_S = 1.0  # after a failure
_NOTHING: dict[str, None] = dict.fromkeys(("callbacks", "errbacks", "chain", "chord"))
MOST_BYTES = 65_536  # of a message; a bell is much smaller
MAX_WAITING = 64  # bells in one queue: more would add nothing
LONGEST_NAME = 200  # RabbitMQ allows 255 bytes

log = logging.getLogger("stroem.bells")


@cache
def _celery() -> Any:
    """Imported with the first bell: most commands ring none, and would wait for it."""
    return import_string(settings.CELERY_APP)


@cache
def _direct() -> Exchange:
    """The default exchange, whose bindings cannot be lost."""
    from kombu import Exchange

    return Exchange("", type="direct")


def queue_name(key: str) -> str:
    """The queue, and the routing key, of the tag set `key`."""
    if len(key.encode()) <= LONGEST_NAME:
        return PREFIX + key
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return PREFIX + key.encode()[: LONGEST_NAME - 20].decode(errors="ignore") + "~" + digest


def queue(key: str) -> Queue:
    """The queue as publishers and consumers declare it."""
    from kombu import Queue

    name = queue_name(key)
    return Queue(name, exchange=_direct(), routing_key=name, durable=True)


def heard(queue: str, content_type: Any, headers: Any, body: Any) -> str | None:
    """The tag set that a message in `queue` rings for; None if it is not exactly a bell. Never
    raises: anybody with access to the broker may have written it."""
    if (
        content_type != "application/json"
        or not isinstance(headers, dict)
        or headers.get("task") != TASK
        or "compression" in headers
        or not isinstance(body, bytes)
        or len(body) > MOST_BYTES
    ):
        return None
    try:
        match json.loads(body):
            case [[str(key)], rest, embedded] if rest == {} and embedded == _NOTHING:
                return key if queue_name(key) == queue else None
    except (ValueError, RecursionError):
        pass
    return None


def ring(keys: Mapping[str, int]) -> int:
    """Top up each tag set's queue to the given number of bells; those already waiting count.

    Returns how many were sent; never raises.
    """
    wanted = {key: count for key, count in keys.items() if count > 0}
    return _ringer.ring(wanted) if wanted else 0


def ring_after_commit(counts: Mapping[int, int]) -> None:
    """Ring for what this transaction makes ready, by tag set id, after the commit."""
    if counts:
        wanted = dict(counts)
        transaction.on_commit(
            lambda: ring({key: wanted[id] for id, key in reach.keys_of(wanted).items()})
        )


def counts() -> dict[str, int]:
    """Bells that this process sent, and bells that it failed to send."""
    return {"rung": _ringer.rung, "failed": _ringer.failed}


@dataclass(slots=True)
class _Ringer:
    """One connection per process, used by one thread at a time."""

    rung: int = 0
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _connection: Connection | None = None
    _channel: Any = None
    _pid: int = 0
    _paused_until: float = 0.0

    def ring(self, keys: Mapping[str, int]) -> int:
        began = time.monotonic()
        total = sum(keys.values())
        if began < self._paused_until or not self._lock.acquire(timeout=BUDGET_S):
            self.failed += total
            return 0
        try:
            return self._attempt(keys, began)
        finally:
            self._lock.release()

    def _attempt(self, keys: Mapping[str, int], began: float) -> int:
        was_open = self._channel is not None and self._pid == os.getpid()
        try:
            sent = self._publish(keys)
        except Exception as error:  # noqa: BLE001  (transports raise anything; a bell is only a hint)
            self._drop()
            if was_open and time.monotonic() - began < BUDGET_S / 2:
                return self._attempt(keys, began)  # the broker closed an idle connection
            self._note(sum(keys.values()), error)
            return 0
        self.rung += sent
        return sent

    def _publish(self, keys: Mapping[str, int]) -> int:
        channel = self._open()
        sent = 0
        for key, count in keys.items():
            # Declared every time: this restores a deleted queue, and tells how full it is.
            name = queue_name(key)
            declared: Any = queue(key)(channel).queue_declare()
            waiting = declared.message_count
            for _ in range(min(count, MAX_WAITING) - waiting):
                self._send(channel, name, key)
                sent += 1
        return sent

    def _send(self, channel: Any, name: str, key: str) -> None:
        # A message of Celery's protocol 2; `send_task` takes ten times as long to build it.
        identity = str(uuid4())
        headers = {
            "lang": "py",
            "task": TASK,
            "id": identity,
            "root_id": identity,
            "parent_id": None,
            "group": None,
            "ignore_result": True,
            "retries": 0,
            "timelimit": [None, None],
        }
        body: Any = ((key,), {}, _NOTHING)
        producer = self._producer(channel)
        producer.publish(
            body,
            exchange=_direct(),
            routing_key=name,
            serializer="json",
            headers=headers,
            delivery_mode="transient",
            correlation_id=identity,
        )

    def _producer(self, channel: Any) -> Any:
        return _celery().amqp.Producer(channel, auto_declare=False)

    def _open(self) -> Any:
        if self._channel is not None and self._pid == os.getpid():
            return self._channel
        connection: Any = _celery().connection_for_write(
            connect_timeout=BUDGET_S,
            heartbeat=0,
            transport_options=_options(_celery().conf.broker_url),
        )
        if not _celery().conf.broker_url:
            raise ConnectionError("no broker is configured")
        connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, timeout=BUDGET_S
        )
        self._connection, self._pid = connection, os.getpid()
        self._channel = connection.channel()
        return self._channel

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None and self._pid == os.getpid():
            try:
                connection.collect(socket_timeout=BUDGET_S)
            except Exception as error:  # noqa: BLE001  (it is already broken)
                log.debug("closing the broker connection: %s", type(error).__name__)

    def _note(self, lost: int, error: Exception) -> None:
        self.failed += lost
        if self._paused_until < time.monotonic() - 60:
            log.warning("cannot ring bells, workers poll instead: %s", type(error).__name__)
        self._paused_until = time.monotonic() + PAUSE_S


def _options(url: str | None) -> dict[str, Any]:
    """Short time-outs for publishing; each transport has its own names for them."""
    shared = dict(_celery().conf.broker_transport_options or {})
    if str(url).startswith(("amqp", "pyamqp")):
        return {**shared, "read_timeout": BUDGET_S, "write_timeout": BUDGET_S}
    return {
        **shared,
        "socket_timeout": BUDGET_S,
        "socket_connect_timeout": BUDGET_S,
        "retry_on_timeout": False,
    }


_ringer = _Ringer()
