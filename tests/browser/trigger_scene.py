"""A workspace with triggers, and a history for their pages: an outage, a skipped run, a refusal."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.triggers.models import Trigger
    from tests.browser.stage import Stage

FILES = """
tasks:
  report:
    input: { day: { type: string }, rows: { type: integer } }
    flow: { wait: { type: script, script: sleep 600 } }
triggers:
  every-hour:
    type: scheduler
    cron: "0 * * * *"
    timezone: Europe/Oslo
    task: report
    concurrency: skip
    jitter: 5m
    input: { day: "{{ scheduled_at | date(format='%Y-%m-%d') }}" }
  after-hours: { type: scheduler, cron: "30 17 * * mon-fri", task: report, enabled: false }
  broken-mapping: { type: scheduler, cron: "*/10 * * * *", task: report, input: { rows: "{{ scheduled_at }}" } }
"""


def prepare(stage: Stage) -> Trigger:
    """The trigger with a history. Its clock starts in the past; the hours that nobody looked at are
    missed."""
    from apps.triggers import clocks, services, transitions
    from apps.triggers.models import Trigger

    if stage.has("reports"):
        return Trigger.objects.get(name="every-hour")
    stage.workspace("reports", FILES)
    now = transitions.database_now()
    paused = {
        row.name: services.pause(row.pk, by="setup")
        for row in Trigger.objects.filter(workspace__name="reports")
    }
    for name, hours in (("every-hour", (10, 2, 1)), ("broken-mapping", (2, 1))):
        row = paused[name]
        services.resume(row.pk, by="setup")
        clocks.wind(
            Trigger.objects.select_related("workspace").get(pk=row.pk), now - timedelta(days=1)
        )
        for ago in hours:
            at = now - timedelta(hours=ago)
            clocks.fire_due(at.replace(minute=5, second=30))
    return Trigger.objects.get(name="every-hour")
