"""The conductor's round: due work twice a second, recovery every few seconds. Several conductors
may run at once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from uuid import uuid4

from django.conf import settings
from django.db import DatabaseError, close_old_connections

from apps.accounts import alerts, connected, devices, throttles, tokens
from apps.agents import spending
from apps.agents import sweeps as agents
from apps.approvals import notices
from apps.approvals import reminders as approvals
from apps.artifacts import blobs
from apps.artifacts.files import leaving
from apps.artifacts.logs import leaving as log_leaving
from apps.artifacts.logs import rounds as log_rounds
from apps.audit import keeping
from apps.conductor import partitions
from apps.fleet import presence
from apps.jobs.upkeep import retention, sweeps
from apps.signin import sign_ons
from apps.subscriptions import rounds as subscriptions
from apps.subscriptions import transitions as deliveries
from apps.triggers import clocks, sources, upkeep, waiting
from apps.workflow_actions import sweeps as workflow_actions
from apps.workflow_actions.expectations import expects
from apps.workspaces.fetches import never_wait
from engine.errors import StroemError

log = logging.getLogger("stroem.conductor")
TICK_S = 0.5
SLOW_S = 60.0

Phase = Callable[[], object]


def tick() -> None:
    """Work due to the second: retries, delayed and held jobs, the time-outs of jobs, of steps that
    wait for a child, and of approvals, and reminders."""
    _run(
        [
            sweeps.due_steps,
            sweeps.due_jobs,
            sweeps.overdue_children,
            agents.overdue_agents,
            sweeps.overdue_jobs,
            approvals.overdue_approvals,
            approvals.due_reminders,
            waiting.go_on_due,
        ]
    )


def sweep() -> None:
    """Recover from lost messages, dead workers and passed deadlines."""
    recovery = settings.STROEM.recovery
    _run(
        [
            sweeps.lost_attempts,
            lambda: presence.mark_dead(recovery.heartbeat_timeout_s),
            sweeps.overdue_attempts,
            sweeps.untold_parents,
            lambda: sweeps.unmatched_steps(expects),
            sweeps.ring_ready,
            *workflow_actions.SWEEPS,
            notices.send_mail,
            alerts.send,
        ]
    )


def tidy() -> None:
    """Work that can wait a minute: missed advances, orphans, log partitions, expired tokens."""
    _run(
        [
            sweeps.missed_advances,
            sweeps.forsaken_children,
            approvals.orphaned_approvals,
            partitions.prepare,
            tokens.forget_expired,
            connected.forget_expired,
            devices.forget_expired,
            sign_ons.forget_old,
            presence.forget_schedulers,
            throttles.forget_old,
            upkeep.follow_revisions,
            blobs.establish,
            deliveries.give_up_old,
        ]
    )


def expire() -> None:
    """Remove what `retention` no longer keeps: jobs with their logs, workers that are gone, old
    costs, old entries of the audit log."""
    _run(
        [
            retention.remove_old_jobs,
            _remove_old_workers,
            partitions.expire,
            upkeep.forget_old,
            spending.forget_old,
            leaving.expire,
            log_leaving.expire,
            blobs.clear_unused,
            deliveries.forget_old,
            keeping.expire,
        ]
    )


def _remove_old_workers() -> None:
    hours = settings.STROEM.retention.worker_hours
    if hours is not None:
        presence.remove_old(hours)


def _run(phases: list[Phase]) -> None:
    for phase in phases:
        try:
            phase()
        except (DatabaseError, StroemError) as error:
            log.warning("%s: %s", _name_of(phase), error)
            close_old_connections()
        except Exception:  # an outer edge: one broken row must not block the others
            log.exception("%s failed; the other phases continue", _name_of(phase))


def _name_of(phase: Phase) -> str:
    return getattr(phase, "__name__", "phase")


def run_forever(
    stop: threading.Event,
    after_round: Callable[[], object] = lambda: None,
    *,
    is_trial: bool = False,
) -> None:
    """Run rounds until `stop` is set. In a trial of one task, no clock fires and no event source
    starts."""
    never_wait()  # for the secrets of one workspace
    _run([upkeep.follow_all, blobs.establish])
    clock = threading.Thread(target=clocks.run, args=(stop,), name="clocks", daemon=True)
    sender = threading.Thread(
        target=subscriptions.run, args=(stop,), name="subscriptions", daemon=True
    )
    mover = threading.Thread(target=log_rounds.run, args=(stop,), name="logs", daemon=True)
    if not is_trial:
        clock.start()
        sender.start()
        mover.start()
    interval_s = settings.STROEM.recovery.sweep_interval_s
    me = uuid4()
    next_sweep = next_tidy = next_expiry = 0.0
    while not stop.is_set():
        now = time.monotonic()
        tick()
        if not is_trial:
            _run([sources.tend])
        if now >= next_sweep:
            _run([partial(presence.scheduler_beats, me)])
            sweep()
            next_sweep = now + interval_s
        if now >= next_tidy:
            tidy()
            next_tidy = now + SLOW_S
        if now >= next_expiry:
            expire()
            next_expiry = now + settings.STROEM.retention.interval_s
        after_round()
        close_old_connections()
        stop.wait(max(0.0, TICK_S - (time.monotonic() - now)))
    if not is_trial:
        clock.join(TICK_S)
        sender.join(subscriptions.STOP_S)
        mover.join(TICK_S)
