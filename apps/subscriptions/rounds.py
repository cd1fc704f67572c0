"""The scheduler's senders. Each turn is one subscription's, in a thread of its own: a receiver that
hangs keeps neither the others nor the sweep waiting. Any number of schedulers may run."""

from __future__ import annotations

import logging
import random
import threading
import time

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction

from apps.subscriptions import secrets, sending, services, transitions
from apps.subscriptions.models import Subscription
from apps.subscriptions.transitions import Due, Try, Turn
from apps.subscriptions.values import rest_after, wait_after
from engine.errors import StroemError
from engine.lifecycle import DeliveryEventKind

log = logging.getLogger("stroem.subscriptions")
MOST_AT_ONCE = 8  # receivers
BATCH = 100  # messages of a turn
LOOK_S = 0.5
TURN_S = 20.0
LEASE_S = 60.0  # more than a turn and one message more
STOP_S = 3.0


def run(stop: threading.Event) -> None:
    """Send what is due until `stop` is set."""
    threads: list[threading.Thread] = []
    while not stop.is_set():
        threads = [thread for thread in threads if thread.is_alive()]
        try:
            while len(threads) < MOST_AT_ONCE and (turn := transitions.take(LEASE_S)):
                thread = threading.Thread(
                    target=_serve, args=(turn, stop), name="subscriptions", daemon=True
                )
                thread.start()
                threads.append(thread)
        except DatabaseError as error:
            log.warning("subscriptions: %s", error)
        except Exception:  # an outer edge: nobody would miss the thread
            log.exception("the senders of subscriptions failed; they go on")
        close_old_connections()
        stop.wait(LOOK_S)
    end = time.monotonic() + STOP_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _serve(turn: Turn, stop: threading.Event) -> None:
    try:
        send(turn, stop)
    except (DatabaseError, StroemError) as error:  # the turn runs out, then others try
        log.warning("subscription %s: %s", turn.subscription_id, error)
    except Exception:  # an outer edge: nobody looks at the result of this thread
        log.exception("sending for subscription %s failed", turn.subscription_id)
    finally:
        close_old_connections()


def send(turn: Turn, stop: threading.Event) -> int:
    """Send what is due for one subscription, until a try fails; returns how many were taken."""
    row = _current(turn)
    if row is None:
        return 0
    failures, error, rest_s = row.failures, row.last_error, None
    ends, done = time.monotonic() + TURN_S, 0
    for one in transitions.due(row.pk, BATCH):
        row = _current(turn)  # somebody may have paused or changed it meanwhile
        if row is None or stop.is_set() or time.monotonic() > ends:
            break
        found = _try(row, one)
        if found.error:
            failures, error = failures + 1, found.error
            rest_s = rest_after(failures, found.retry_after_s)
            _note_failure(row, one, found)
            break
        transitions.move(one.id, DeliveryEventKind.DELIVERED, found)
        done, failures, error = done + 1, 0, ""
    transitions.release(turn, failures, error, rest_s)
    transitions.forget_beyond(turn.subscription_id)
    return done


def _current(turn: Turn) -> Subscription | None:
    rows = Subscription.objects.select_related("workspace")
    return rows.filter(pk=turn.subscription_id, paused_at=None).first()


def _try(row: Subscription, one: Due) -> Try:
    try:
        now, keys = secrets.usable(row)
        headers, body = secrets.signed(keys, one, round(now.timestamp()))
    except StroemError as error:
        return Try(f"the secret cannot be read: {error}")
    objection = services.objection_to(row.url)  # the settings may have changed
    if objection:
        return Try(f"the address {objection}")
    if not connection.in_atomic_block:
        close_old_connections()  # none is held while the receiver thinks
    return sending.post(row.url, headers, body, settings.STROEM.subscriptions.private_networks)


def _note_failure(row: Subscription, one: Due, found: Try) -> None:
    is_gone = found.answer == sending.GONE
    wait_s = wait_after(one.tries + 1, random.random(), found.retry_after_s)
    is_last = is_gone or wait_s is None
    event = DeliveryEventKind.GIVEN_UP if is_last else DeliveryEventKind.TRIED
    with transaction.atomic():
        transitions.move(one.id, event, found, None if is_last else wait_s)
        if is_gone:
            services.stop(row, "The receiver answered 410: it wants no more messages")
    log.warning("subscription %s: message %s: %s", row, one.message.hex, found.error)
