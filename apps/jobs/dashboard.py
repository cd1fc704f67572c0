"""What the dashboard says about jobs: what runs, what broke today, how much, how fast. Few queries, whatever runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Aggregate, Count, F, FloatField, Min, Q, QuerySet
from django.db.models.functions import Extract, TruncHour
from django.http import HttpRequest
from django.utils import timezone

from apps.accounts.grants import visible
from apps.adminkit import panels
from apps.adminkit.charts import Bars, Series
from apps.fleet.models import TagSet
from apps.jobs.models import Attempt, Job, Step

HOURS = 24
ROWS = 8
OUTCOMES = (("completed", "ok"), ("failed", "bad"), ("cancelled", "off"))


@dataclass(frozen=True, slots=True)
class Tile:
    """One number with the list behind it."""

    label: str
    number: int
    query: str
    status: str


def seen(request: HttpRequest) -> QuerySet[Job]:
    return Job.objects.filter(visible(request.user, "workspace__name"))


def today() -> datetime:
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


def tiles(request: HttpRequest) -> dict[str, Any]:
    since = today()
    open_jobs = seen(request).filter(status__in=["pending", "running"])
    ended = seen(request).filter(completed_at__gte=since)
    live = open_jobs.aggregate(
        running=Count("pk", filter=Q(status="running")), waiting=Count("pk", filter=Q(status="pending"))
    )
    done = ended.aggregate(
        failed=Count("pk", filter=Q(status="failed")), completed=Count("pk", filter=Q(status="completed"))
    )
    return {
        "tiles": [
            Tile("running", live["running"], "status=running", "running"),
            Tile("waiting to start", live["waiting"], "status=pending", "pending"),
            Tile("failed today", done["failed"], "status=failed", "failed"),
            Tile("completed today", done["completed"], "status=completed", "completed"),
        ]
    }


def running(request: HttpRequest) -> dict[str, Any]:
    rows = seen(request).filter(status="running").select_related("workspace").order_by("-created_at", "-id")
    return {
        "jobs": rows.only("task_name", "workspace__name", "status", "started_at", "created_at", "open_steps")[:ROWS]
    }


def failed(request: HttpRequest) -> dict[str, Any]:
    rows = seen(request).filter(status="failed", completed_at__gte=today()).select_related("workspace")
    rows = rows.only("task_name", "workspace__name", "status", "completed_at", "error")
    return {"jobs": rows.order_by("-completed_at")[:ROWS]}


def charts(request: HttpRequest) -> dict[str, Any]:
    end = timezone.localtime().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    hours = [end - timedelta(hours=back) for back in range(HOURS, 0, -1)]
    rows = seen(request).filter(completed_at__gte=hours[0]).order_by()
    found = rows.annotate(hour=TruncHour("completed_at")).values_list("hour", "status").annotate(count=Count("pk"))
    counts = {(hour, status): count for hour, status, count in found}
    labels = [hour.strftime("%H:00") for hour in hours]
    throughput = [Series(status, tone, [counts.get((hour, status), 0) for hour in hours]) for status, tone in OUTCOMES]
    return {
        "throughput": Bars("Jobs that ended, by hour", labels, throughput),
        "durations": Bars("How long completed jobs took, by hour", labels, _durations(rows, hours), unit=" s"),
    }


def _durations(rows: QuerySet[Job], hours: list[datetime]) -> list[Series]:
    """Median and the slowest twentieth, in seconds."""
    done = rows.filter(status="completed", started_at__isnull=False).annotate(hour=TruncHour("completed_at"))
    found = done.values_list("hour").annotate(half=_percentile(0.5), most=_percentile(0.95))
    by_hour = {hour: (half, most) for hour, half, most in found}
    pairs = [by_hour.get(hour, (0.0, 0.0)) for hour in hours]
    return [
        Series("half take less than", "run", [round(half, 1) for half, _ in pairs]),
        Series("95 % take less than", "next", [round(max(0.0, most - half), 1) for half, most in pairs]),
    ]


class Percentile(Aggregate):
    """The value under which this part of all values lies."""

    function = "percentile_cont"
    template = "%(function)s(%(part)s) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = FloatField()


def _percentile(part: float) -> Percentile:
    return Percentile(Extract(F("completed_at") - F("started_at"), "epoch"), part=part)


def queues(request: HttpRequest) -> dict[str, Any]:
    """Steps that are ready, by the tags that they ask for, and how long the first has waited."""
    rows = Step.objects.filter(status="ready", tag_set__isnull=False).order_by()
    counted = list(rows.values_list("tag_set_id").annotate(count=Count("pk"), oldest=Min("ready_at")))
    names = dict(TagSet.objects.filter(pk__in=[row[0] for row in counted]).values_list("pk", "key"))
    return {"queues": sorted((names.get(pk, "?"), count, oldest) for pk, count, oldest in counted)}


def attempts_of(request: HttpRequest, worker: Any) -> dict[str, Any]:
    """On the page of a worker: what it does now, and did last, in workspaces that the caller sees."""
    rows = list(Attempt.objects.filter(worker_id=worker.pk).order_by("-id")[:50])
    steps = Step.objects.filter(visible(request.user, "job__workspace__name"), pk__in=[row.step_id for row in rows])
    known = {step.pk: step for step in steps.select_related("job").only("name", "job__task_name")}
    return {"attempts": [(row, known[row.step_id]) for row in rows if row.step_id in known]}


def register() -> None:
    panels.dashboard.add("jobs/tiles_panel.html", tiles, order=0, is_wide=True)
    panels.dashboard.add("jobs/running_panel.html", running, order=20)
    panels.dashboard.add("jobs/failed_panel.html", failed, order=30)
    panels.dashboard.add("jobs/charts_panel.html", charts, order=50, is_wide=True)
    panels.dashboard.add("jobs/queues_panel.html", queues, order=45)
    panels.worker_page.add("jobs/worker_panel.html", attempts_of, order=10)
