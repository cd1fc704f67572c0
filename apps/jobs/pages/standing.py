"""How a job stands for its readers: as its status says, or only waiting for a person."""

from __future__ import annotations

from django.db.models import Case, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.lookups import IsNull

from apps.jobs.models import Job, Step
from engine.lifecycle import JobStatus, StepStatus


def _has_step(*statuses: StepStatus) -> Q:
    """Not an EXISTS: the planner may answer that one from all steps of the database at once, as it
    does not see that the page has few jobs."""
    steps = Step.objects.filter(job_id=OuterRef("pk"), status__in=statuses)
    return Q(IsNull(Subquery(steps.values("pk")[:1]), False))


IS_WAITING = _has_step(StepStatus.SUSPENDED) & ~_has_step(StepStatus.RUNNING, StepStatus.READY)
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
