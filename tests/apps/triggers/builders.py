"""Workspaces with triggers, and clocks by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from apps.jobs.models import Job
from apps.triggers import clocks
from apps.triggers.models import Firing, Trigger

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TASKS = """
tasks:
  main:
    input:
      day: { type: string }
      count: { type: integer }
      token: { type: string, secret: true }
    flow: { work: { type: script, script: "true" } }
"""


def trigger(name: str = "nightly") -> Trigger:
    return Trigger.objects.select_related("workspace").get(name=name)


def set_to(moment: datetime, name: str = "nightly") -> Trigger:
    """Wind the clock of a trigger as if it were `moment`."""
    clocks.wind(trigger(name), moment)
    return trigger(name)


def outcomes(name: str = "nightly") -> list[tuple[str, str]]:
    """(status, slot as HH:MM or the key) of all firings, in order."""
    rows = Firing.objects.filter(trigger__name=name).order_by("slot", "id")
    return [(row.status, f"{row.slot:%H:%M}" if row.slot else row.key) for row in rows]


def jobs(**only: Any) -> list[Job]:
    return list(Job.objects.filter(**only).order_by("created_at", "id"))
