"""The Celery side of a worker: takes bells while a slot is free, and rings for other workers.

Celery runs in its own thread, so the worker's life (signals, draining) never depends on the broker.
Four changes to Celery:

* Messages come to us unread, out of kombu's hands: Celery would restore for ever what it fails to
  parse, and unpack what is compressed, and whoever can reach the broker can write anything into its
  queues.
* With prefetch off, the consumer loop must be woken when a slot becomes free; otherwise it sleeps
  while work waits.
* Slots are also taken without Celery (polling, the step after a finish), so Celery's own count of
  reserved tasks cannot say whether this worker may take another bell.
* Reconnecting backs off to 30 s by default; here a worker listens again 2 s after its broker is
  back.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty
from struct import error as StructError
from types import MethodType
from typing import Any

from amqp import serialization
from amqp.exceptions import AMQPError, RecoverableConnectionError
from celery import bootsteps
from celery.concurrency.base import BasePool
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from celery.worker.consumer.tasks import Tasks
from kombu.asynchronous import set_event_loop

from workers.attempts import Slots
from workers.door import Bells

log = logging.getLogger("stroem.worker")
RETRY_S = 2.0
# bells for one tag set at a time: a worker that finds work wakes its own slots and the next worker
MOST = 8
TELL_S = 60.0  # between two complaints about messages that are no bells
MOST_BYTES = 131_072  # of a message in Redis: its content is in base64 there
Content = tuple[Any, Any, Any]  # content type, headers, body
QUIET = (
    "celery.worker.strategy",
    "celery.app.trace",
    "celery.worker.consumer",
    "celery.worker",
    "celery.bootsteps",
)


@dataclass(frozen=True, slots=True)
class Taken:
    """A message of a queue. `acknowledge` comes first; `read` never raises."""

    queue: str
    acknowledge: Callable[[], None]
    read: Callable[[], Content | None]


class Ear:
    """Listens on the queues of tag sets; `hear` gets the key of every bell, in a slot. `add` and
    `close` are thread-safe."""

    def __init__(
        self,
        app: Any,
        bells: Bells,
        slots: Slots,
        keys: Iterable[str],
        hear: Callable[[str], None],
        *,
        name: str,
    ) -> None:
        self._app = app
        self._bells = bells
        self._hear = hear
        self.dropped = 0  # messages that were no bells
        self._told_at = -TELL_S
        self._held: deque[Taken] = deque()
        self._slots = slots
        self._keys = dict.fromkeys(keys)
        self._name = name
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._consumer: Any = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bells", daemon=True)
        slots.on_free = self.wake

    @property
    def is_listening(self) -> bool:
        return self._consumer is not None

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._keys)

    def start(self) -> None:
        self._thread.start()

    def add(self, keys: Iterable[str]) -> None:
        """Also listen on the queues of these tag sets; reconnect if one of ours was deleted."""
        fresh = [key for key in keys if key not in self._keys]
        self._keys.update(dict.fromkeys(fresh))
        with self._lock:
            if fresh:
                self._waiting.append(lambda: self._consume(fresh))
            self._waiting.append(self._check)
        self.wake()

    def close(self, timeout_s: float = 2.0) -> None:
        """Take no more bells. Returns when the consumer has ended, after `timeout_s` at most."""
        self._closing.set()
        _tell_celery_to_stop(0)
        self.wake()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        _tell_celery_to_stop(None)

    def wake(self) -> None:
        with suppress(BlockingIOError):  # full: it is awake, or will be
            os.write(self._wake_write, b".")

    def may_take(self) -> bool:
        return self._slots.free > 0

    def _run(self) -> None:
        # about a setting that Celery 6 will require; ours has it already
        warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
        for logger in QUIET:
            logging.getLogger(logger).setLevel(logging.WARNING)
        while not self._closing.is_set():
            try:
                self._serve()
            except Exception:
                log.exception("the bell consumer failed; polling continues meanwhile")
            self._consumer = None
            self._closing.wait(RETRY_S)

    def _serve(self) -> None:
        set_event_loop(None)  # a new one for a new controller
        self._app.conf.task_queues = [self._bells.queue(key) for key in self._keys]
        self._app.amqp.__dict__.pop("queues", None)
        controller = WorkController(
            app=self._app,
            hostname=self._name,
            pool=type("BoundPool", (SlotPool,), {"ear": self}),
            concurrency=self._slots.size,
            consumer_cls=_consumer_class(self),
            loglevel=logging.WARNING,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        controller.start()

    def _attach(self, hub: Any) -> None:
        hub.add_reader(self._wake_read, self._on_wake)

    def _on_wake(self, *_: Any) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        state.maybe_shutdown()
        with self._lock:
            todo, self._waiting = self._waiting, []
        for action in todo:
            action()
        self._take()

    def _receive(self, taken: Taken) -> None:
        self._held.append(taken)
        self._take()

    def _take(self) -> None:
        """Acknowledge before reading: whatever a message holds, it never comes back."""
        while self._held and self.may_take() and not self._closing.is_set():
            taken = self._held.popleft()
            taken.acknowledge()
            content = taken.read()
            key = None if content is None else self._bells.heard(taken.queue, *content)
            if key is None:
                self._drop(taken.queue)
            else:
                self._slots.submit(partial(self._hear, key))

    def _drop(self, queue: str) -> None:
        self.dropped += 1
        if time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            log.warning(
                "dropped a message in the broker's queue %s that is not a bell (%d so far): check"
                " who else writes to this broker",
                queue,
                self.dropped,
            )

    def _connected(self, consumer: Any) -> None:
        """On a fresh connection: make the consumer's loop ask us before it takes a message, and
        hand it to us as it is."""
        self._consumer = consumer
        self._held.clear()  # the last connection's: RabbitMQ delivers them again
        divert(consumer.task_consumer, self._receive)
        qos: Any = getattr(consumer.task_consumer.channel, "qos", None)
        original = getattr(qos, "can_consume", None)
        if original is not None:  # Redis; on RabbitMQ the prefetch count is the bound
            qos.can_consume = MethodType(lambda _: self.may_take() and original(), qos)
        # no `consume` needed: the loop that takes messages starts after this
        self._add_queues(list(self._keys))

    def _disconnected(self) -> None:
        self._consumer = None

    def _consume(self, keys: Iterable[str]) -> None:
        """In the consumer's thread. If the broker fails here, the consumer reconnects with all
        keys."""
        if self._consumer is not None and self._consumer.task_consumer is not None:
            self._add_queues(keys)
            self._consumer.task_consumer.consume()

    def _check(self) -> None:
        """RabbitMQ announces a deleted queue once, and Celery may miss it: early in a connection it
        swallows every error. The channel shows it: it has dropped the consumer."""
        consumer = None if self._consumer is None else self._consumer.task_consumer
        known = None if consumer is None else getattr(consumer.channel, "callbacks", None)
        if (
            consumer is not None
            and known is not None
            and not set(consumer._active_tags.values()) <= set(known)
        ):
            raise RecoverableConnectionError("a queue was deleted")

    def _add_queues(self, keys: Iterable[str]) -> None:
        consumer = self._consumer.task_consumer
        known = {queue.name for queue in consumer.queues}
        for queue in (self._bells.queue(key) for key in keys):
            if queue.name not in known:
                self._app.amqp.queues.select_add(queue)
                consumer.add_queue(queue)


class Ringer(threading.Thread):
    """Collects requests to ring and publishes them; requests during a round are merged."""

    def __init__(self, bells: Bells) -> None:
        super().__init__(name="ringer", daemon=True)
        self._bells = bells
        self._lock = threading.Condition()
        self._wanted: dict[str, int] = {}
        self._is_closed = False

    def ring(self, keys: Mapping[str, int]) -> None:
        """Ring soon; never waits."""
        if not keys:
            return
        with self._lock:
            for key, count in keys.items():
                self._wanted[key] = min(MOST, max(count, self._wanted.get(key, 0)))
            self._lock.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Ring for what is left, waiting at most `timeout_s`."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._wanted or self._is_closed)
                wanted, self._wanted = self._wanted, {}
                if not wanted:
                    return
            self._bells.ring(wanted)


class SlotPool(BasePool):
    """Celery's pool: it runs nothing, as bells go to our slots."""

    ear: Ear
    signal_safe = False

    def register_with_event_loop(self, hub: Any) -> None:
        self.ear._attach(hub)


class BellConsumer(Consumer):
    """Tries to reconnect at a steady pace."""

    def ensure_connected(self, conn: Any) -> Any:
        since = time.monotonic()

        def complain(error: Exception, interval: float) -> None:
            self.broker_connection_retry_attempt += 1
            if self.broker_connection_retry_attempt == 1:
                log.warning(
                    "no broker at %s (%s): check that it runs and can be reached; this worker polls"
                    " for work until it is back",
                    conn.as_uri(),
                    type(error).__name__,
                )

        conn.ensure_connection(
            complain,
            None,
            interval_start=0.5,
            interval_step=0.5,
            interval_max=RETRY_S,
            callback=state.maybe_shutdown,
        )
        if self.broker_connection_retry_attempt:
            away_s = round(time.monotonic() - since, 1)
            told = {"broker": conn.as_uri(), "away_s": away_s}
            log.info("the broker answers again", extra={"fields": told})
        self.broker_connection_retry_attempt = 0
        self.first_connection_attempt = False
        return conn


def _tell_celery_to_stop(exit_code: int | None) -> None:
    setattr(state, "should_stop", exit_code)  # noqa: B010  (the published types allow None only)


def _consumer_class(ear: Ear) -> type[BellConsumer]:
    """A consumer with an extra step; `app.steps` would add it to every consumer of this process."""

    class Ready(bootsteps.StartStopStep):
        requires = (Tasks,)

        def start(self, consumer: Any) -> None:
            ear._connected(consumer)

        def stop(self, consumer: Any) -> None:
            ear._disconnected()

        shutdown = stop

    base: Any = Consumer.Blueprint
    blueprint = type("Blueprint", (base,), {"default_steps": [*base.default_steps, Ready]})
    return type("BoundConsumer", (BellConsumer,), {"Blueprint": blueprint})


def divert(consumer: Any, receive: Callable[[Taken], None]) -> None:
    """Hand every message of kombu's `consumer` to `receive`. Before it begins to consume."""
    channel = consumer.channel
    if hasattr(channel, "_brpop_read"):
        channel.handlers["BRPOP"] = partial(_pop, channel, receive)
        # What we take is gone from Redis, so there is nothing to restore but what others planted.
        channel.qos.restore_visible = lambda *_, **__: None
    else:
        decoders: dict[int, Any] = serialization.PROPERTY_CLASSES
        decoders[serialization.Basic.CLASS_ID] = _properties
        consumer._receive_callback = partial(_delivered, receive)


def _pop(channel: Any, receive: Callable[[Taken], None], **options: Any) -> bool:
    """kombu's `_brpop_read`, which would also parse the message."""
    try:
        connection = channel.client.connection
        try:
            popped = channel.client.parse_response(connection, "BRPOP", **options)
        except channel.connection_errors:
            connection.disconnect()  # the next round connects again
            raise
        if not popped:
            raise Empty
        queue = popped[0].decode().rsplit(channel.sep, 1)[0]
        channel._queue_cycle.rotate(queue)
        receive(Taken(queue, lambda: None, partial(_from_redis, popped[1])))
        return True
    finally:
        channel._in_poll = None
        channel._flush_brpop_reauth()


def _from_redis(raw: bytes) -> Content | None:
    if len(raw) > MOST_BYTES:
        return None
    try:
        match json.loads(raw):
            case {"body": str(body), "content-type": kind, "headers": headers}:
                return kind, headers, base64.b64decode(body, validate=True)
    except (ValueError, RecursionError):
        pass
    return None


def _delivered(receive: Callable[[Taken], None], message: Any) -> None:
    info, properties = message.delivery_info, message.properties
    body = message.body.encode() if isinstance(message.body, str) else bytes(message.body)
    content = (properties.get("content_type"), properties.get("application_headers"), body)
    acknowledge = partial(message.channel.basic_ack, info["delivery_tag"])
    receive(Taken(info["routing_key"], acknowledge, lambda: content))


def _properties(buffer: Any, offset: int) -> tuple[dict[str, Any], int]:
    """Properties that cannot be read are none: an error here would cost the connection, and come
    back with the message."""
    try:
        return serialization.decode_properties_basic(buffer, offset)
    except (ValueError, LookupError, TypeError, ArithmeticError, OSError, RecursionError):
        return {}, offset
    except (StructError, AMQPError):
        return {}, offset
