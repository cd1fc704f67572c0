"""The conductor's round: every second what is due, every few seconds what was missed. Any number may run at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, close_old_connections

from apps.conductor import partitions
from apps.fleet import presence
from apps.jobs import sweeps
from apps.workspaces import services as workspaces
from engine.errors import StroemError

log = logging.getLogger("stroem.conductor")
TICK_S = 1.0
SLOW_S = 60.0

Phase = Callable[[], object]


def tick() -> None:
    """What is due to the second: retries, delayed and held jobs."""
    _run([sweeps.due_steps, sweeps.due_jobs, *EXTRA_TICKS])


def sweep() -> None:
    """What a lost message, a dead worker or a passed deadline left behind."""
    recovery = settings.STROEM.recovery
    _run(
        [
            sweeps.lost_attempts,
            lambda: presence.mark_dead(recovery.heartbeat_timeout_s),
            sweeps.overdue_attempts,
            sweeps.overdue_children,
            sweeps.overdue_jobs,
            sweeps.untold_parents,
            sweeps.unmatched_steps,
            sweeps.ring_ready,
            *EXTRA_SWEEPS,
        ]
    )


def tidy() -> None:
    """What may wait a minute: missed advances, log partitions, workspaces to look at again."""
    _run([sweeps.missed_advances, partitions.prepare, partitions.expire])


EXTRA_TICKS: list[Phase] = []
EXTRA_SWEEPS: list[Phase] = []


def _run(phases: list[Phase]) -> None:
    for phase in phases:
        try:
            phase()
        except (DatabaseError, StroemError) as error:
            log.warning("%s: %s", getattr(phase, "__name__", "phase"), error)
            close_old_connections()


def run_forever(stop: threading.Event) -> None:
    """Go round until `stop` is set."""
    interval_s = settings.STROEM.recovery.sweep_interval_s
    next_sweep = next_tidy = 0.0
    while not stop.is_set():
        now = time.monotonic()
        tick()
        if now >= next_sweep:
            sweep()
            next_sweep = now + interval_s
        if now >= next_tidy:
            tidy()
            next_tidy = now + SLOW_S
        _run([workspaces.refresh_due])
        close_old_connections()
        stop.wait(TICK_S)
