"""How a job stands for its readers: as its status says, or only waiting for a person."""

from __future__ import annotations

from django.db.models import Case, Exists, F, OuterRef, QuerySet, Value, When

from apps.jobs.models import Job, Step
from engine.lifecycle import JobStatus, StepStatus

_STEPS = Step.objects.filter(job_id=OuterRef("pk"))
IS_WAITING = Exists(_STEPS.filter(status=StepStatus.SUSPENDED)) & ~Exists(
    _STEPS.filter(status__in=(StepStatus.RUNNING, StepStatus.READY))
)
_RUNNING = Case(When(IS_WAITING, then=Value(StepStatus.SUSPENDED.value)), default=F("status"))


def with_standing(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Each with `standing`: its status, `held`, or `suspended`."""
    return jobs.annotate(
        standing=Case(
            When(is_held=True, then=Value("held")),
            When(status=JobStatus.RUNNING, then=_RUNNING),
            default=F("status"),
        )
    )
