"""The scheduler's keeper of lines, in a thread of its own: a storage that hangs keeps no sweep
waiting. Of several schedulers, one does it at a time."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.db import DatabaseError, close_old_connections
from django.db.models import Q
from django.db.models.functions import Coalesce, Now

from apps.artifacts.logs import moving
from apps.artifacts.models import LogRound
from apps.jobs.log import moving as here
from engine.errors import PlatformError

log = logging.getLogger("stroem.logs")
TURN = timedelta(minutes=5)  # more than one volume takes
MOST_COUNTED = 10_000


def run(stop: threading.Event) -> None:
    """Move lines until `stop` is set."""
    me = uuid4()
    while not stop.is_set():
        if settings.STROEM.archives_logs:
            try:
                go_round(me, stop)
            except DatabaseError as error:
                log.warning("logs: %s", str(error).strip())
            except Exception:  # an outer edge: nobody would miss the thread
                log.exception("moving lines failed; it goes on")
        close_old_connections()
        stop.wait(settings.STROEM.logs.interval_s)


def go_round(me: UUID, stop: threading.Event | None = None) -> int:
    """Move what is due, if it is this process's turn; returns how many lines. What the storage does
    not take stays in the database, and the row of rounds says so."""
    if not _take_turn(me):
        return 0
    age_s = settings.STROEM.logs.archive_after_s

    def may_go_on() -> bool:
        return not (stop is not None and stop.is_set()) and _take_turn(me)

    try:
        moved = moving.move(age_s, may_go_on)
    except (PlatformError, OSError) as error:  # also a full disk of ours
        _note_failure(me, str(error), age_s)
        return 0
    done = {"ended_at": Now(), "error": "", "failing_since": None, "waiting": 0}
    LogRound.objects.filter(holder=me).update(**done, held_until=Now())
    if moved:
        log.info("%s lines of ended jobs are in the storage now", f"{moved:,}")
    return moved


def _take_turn(me: UUID) -> bool:
    free = LogRound.objects.filter(Q(holder=me) | Q(held_until__lte=Now()))
    mine = {"holder": me, "held_until": Now() + TURN}
    if free.update(**mine):
        return True
    if LogRound.objects.exists():
        return False
    LogRound.objects.bulk_create([LogRound()], ignore_conflicts=True)
    return bool(free.update(**mine))


def _note_failure(me: UUID, error: str, age_s: float) -> None:
    log.warning("lines of ended jobs stay in the database: %s", error)
    waiting, _ = here.done(moving.BEGINNING, age_s, MOST_COUNTED)
    LogRound.objects.filter(holder=me).update(
        error=error,
        failing_since=Coalesce("failing_since", Now()),
        waiting=len(waiting),
        held_until=Now(),
    )
