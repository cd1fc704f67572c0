"""What the dashboard shows about jobs: what runs, what failed today, counts and durations. A few
queries, at any load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db.models import Aggregate, Count, Exists, F, FloatField, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Extract, TruncHour
from django.http import HttpRequest
from django.utils import timezone

from apps.adminkit import panels
from apps.adminkit.charts import Bars, Series
from apps.fleet.models import TagSet
from apps.jobs import veils
from apps.jobs.models import Attempt, Job, Step
from apps.jobs.pages.standing import with_standing
from apps.workspaces.rights import sight_of
from engine.lifecycle import OPEN_JOB, JobStatus, StepStatus

HOURS = 24
ROWS = 8
OUTCOMES = ((JobStatus.COMPLETED, "ok"), (JobStatus.FAILED, "bad"), (JobStatus.CANCELLED, "off"))


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that links to the list behind it."""

    label: str
    number: int
    query: str
    status: str


def seen(request: HttpRequest) -> QuerySet[Job]:
    return Job.objects.filter(sight_of(request.user).tasks())


def today() -> datetime:
    return timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)


@dataclass(frozen=True, slots=True)
class Hour:
    """The jobs of one status that ended within one hour; `half` and `most` are the 50th and 95th
    percentiles of their durations in seconds."""

    start: datetime
    status: str
    count: int
    half: float
    most: float


def hours_of(request: HttpRequest) -> list[Hour]:
    """What ended in the last 24 hours, read once for all panels of a page: the only query over many
    rows."""
    known: list[Hour] | None = getattr(request, "_stroem_hours", None)
    if known is None:
        final = [status for status, _ in OUTCOMES]
        rows = seen(request).filter(completed_at__gte=starts()[0], status__in=final).order_by()
        hours = rows.annotate(hour=TruncHour("completed_at")).values_list("hour", "status")
        took = Extract(F("completed_at") - F("started_at"), "epoch")
        found: Any = hours.annotate(count=Count("pk"), times=Percentiles(took))
        known = [
            Hour(hour, status, count, *(times or (0.0, 0.0)))
            for hour, status, count, times in found
        ]
        setattr(request, "_stroem_hours", known)  # noqa: B010  (our attribute on Django's class)
    return known


def starts() -> list[datetime]:
    """The starts of the last 24 hours, the current hour last."""
    end = timezone.localtime().replace(minute=0, second=0, microsecond=0)
    return [end - timedelta(hours=back) for back in range(HOURS - 1, -1, -1)]


class Percentiles(Aggregate):
    """The 50th and 95th percentiles."""

    function = "percentile_cont"
    template = "%(function)s(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY %(expressions)s)"
    output_field = ArrayField(FloatField())


def tiles(request: HttpRequest) -> dict[str, Any]:
    since = today()
    open_jobs = seen(request).filter(status__in=OPEN_JOB)
    live = open_jobs.aggregate(
        running=Count("pk", filter=Q(status=JobStatus.RUNNING)),
        waiting=Count("pk", filter=Q(status=JobStatus.PENDING)),
    )
    ended: dict[str, int] = {status: 0 for status, _ in OUTCOMES}
    for hour in hours_of(request):
        if hour.start >= since:
            ended[hour.status] += hour.count
    return {
        "tiles": [
            Tile("running", live["running"], "status=running", "running"),
            Tile("waiting to start", live["waiting"], "status=pending", "pending"),
            Tile("failed today", ended[JobStatus.FAILED], "status=failed", "failed"),
            Tile("completed today", ended[JobStatus.COMPLETED], "status=completed", "completed"),
        ]
    }


def running(request: HttpRequest) -> dict[str, Any]:
    rows = (
        seen(request)
        .filter(status=JobStatus.RUNNING)
        .select_related("workspace")
        .order_by("-created_at", "-id")
    )
    shown = rows.only(
        "task_name", "workspace__name", "status", "started_at", "created_at", "open_steps"
    )
    return {"jobs": with_standing(shown)[:ROWS]}


def failed(request: HttpRequest) -> dict[str, Any]:
    rows = (
        seen(request)
        .filter(status=JobStatus.FAILED, completed_at__gte=today())
        .select_related("workspace")
    )
    rows = rows.only("task_name", "workspace__name", "status", "completed_at", "error")
    sight = sight_of(request.user)
    jobs = list(rows.order_by("-completed_at")[:ROWS])
    return {"jobs": [veils.job(row, sight.on(row.workspace.name, row.task_name)) for row in jobs]}


def charts(request: HttpRequest) -> dict[str, Any]:
    known = {(hour.start, hour.status): hour for hour in hours_of(request)}
    labels = [start.strftime("%H:00") for start in starts()]

    def row(status: str, value: Callable[[Hour], float]) -> list[float]:
        return [
            value(known[start, status]) if (start, status) in known else 0 for start in starts()
        ]

    throughput = [
        Series(status, tone, row(status, lambda hour: hour.count)) for status, tone in OUTCOMES
    ]
    durations = [
        Series(
            "half take less than", "run", row(JobStatus.COMPLETED, lambda hour: _short(hour.half))
        ),
        Series(
            "95 % take less than",
            "next",
            row(JobStatus.COMPLETED, lambda hour: _short(hour.most - hour.half)),
        ),
    ]
    return {
        "throughput": Bars("Jobs that ended, by hour", labels, throughput),
        "durations": Bars(
            "How long completed jobs took, by hour",
            labels,
            durations,
            " s",
            "No job has completed in the last 24 hours.",
        ),
    }


def _short(seconds: float) -> float:
    """Rounded, but what took a moment is not nothing."""
    return round(seconds, 1) if seconds >= 1 else round(max(0.0, seconds), 3)


def queues(request: HttpRequest) -> dict[str, Any]:
    """Ready steps by required tags, and how long the first has waited."""
    rows = Step.objects.filter(status=StepStatus.READY, tag_set__isnull=False).order_by()
    counted = list(
        rows.values_list("tag_set_id").annotate(count=Count("pk"), oldest=Min("ready_at"))
    )
    names = dict(TagSet.objects.filter(pk__in=[row[0] for row in counted]).values_list("pk", "key"))
    return {"queues": sorted((names.get(pk, "?"), count, oldest) for pk, count, oldest in counted)}


def attempts_of(request: HttpRequest, worker: Any) -> dict[str, Any]:
    """On a worker's page: its current and latest attempts, in workspaces that the caller may
    see."""
    of_flow = Exists(Step.objects.filter(pk=OuterRef("step_id")))
    rows = list(Attempt.objects.filter(of_flow, worker_id=worker.pk).order_by("-id")[:50])
    steps = Step.objects.filter(
        sight_of(request.user).tasks(workspace="job__workspace", task="job__task_name"),
        pk__in=[row.step_id for row in rows],
    )
    known = {step.pk: step for step in steps.select_related("job").only("name", "job__task_name")}
    return {"attempts": [(row, known[row.step_id]) for row in rows if row.step_id in known]}


def register() -> None:
    panels.dashboard.add("jobs/tiles_panel.html", tiles, order=0, is_wide=True)
    panels.dashboard.add("jobs/running_panel.html", running, order=20)
    panels.dashboard.add("jobs/failed_panel.html", failed, order=30)
    panels.dashboard.add("jobs/charts_panel.html", charts, order=50, is_wide=True)
    panels.dashboard.add("jobs/queues_panel.html", queues, order=45)
    panels.worker_page.add("jobs/worker_panel.html", attempts_of, order=10)
