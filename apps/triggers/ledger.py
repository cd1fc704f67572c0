"""The worker's door to event sources."""

from __future__ import annotations

from django.db import connections

from apps.jobs.values import Claim
from apps.triggers import arrivals
from apps.triggers.arrivals import Emitted as Emitted
from engine.events import Event


def emit(claim: Claim, number: int, event: Event) -> Emitted:
    """Make a job, or a dead letter, of an event that this attempt printed as its `number`th. A
    repeat changes nothing."""
    return arrivals.take(claim, number, event)


def released() -> None:
    """Return this thread's database connection."""
    connections.close_all()
