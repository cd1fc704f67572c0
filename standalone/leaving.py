"""What `up` says about the steps that run while it ends: how many, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import DatabaseError

from apps.fleet.models import Worker
from apps.jobs.models import Attempt, Step
from apps.triggers.models import Source
from engine.lifecycle import OwnerKind, StepStatus


@dataclass(frozen=True, slots=True)
class RunningStep:
    id: int
    name: str
    job_id: UUID
    task: str


def running_steps(worker_pid: int | None) -> list[RunningStep]:
    """The steps of the worker with this process id; none if the database does not answer.

    Consumers of event sources do not count: they end at once, and the next start begins new ones.
    """
    if worker_pid is None:
        return []
    workers = Worker.objects.filter(pid=worker_pid, stopped_at=None).values("pk")
    held = Attempt.objects.filter(worker_id__in=workers, ended_at=None).values("step_id")
    rows = Step.objects.filter(status=StepStatus.RUNNING, owner_kind=OwnerKind.STEP, pk__in=held)
    rows = rows.exclude(job_id__in=Source.objects.exclude(consumer_id=None).values("consumer_id"))
    columns = rows.order_by("started_at", "id").values_list(
        "pk", "name", "job_id", "job__workspace__name", "job__task_name"
    )
    try:
        return [
            RunningStep(key, name, job_id, f"{workspace}/{task}")
            for key, name, job_id, workspace, task in columns
        ]
    except DatabaseError:
        return []


def what_became_of(steps: Sequence[RunningStep]) -> Iterator[str]:
    """A sentence for each step that has not ended by itself, with the command that resumes it."""
    try:
        now = dict(
            Step.objects.filter(pk__in=[step.id for step in steps]).values_list("pk", "status")
        )
    except DatabaseError:
        return
    for step in steps:
        whose = f"Step '{step.name}' of job {step.job_id} ({step.task})"
        match now.get(step.id):
            case StepStatus.FAILED | StepStatus.CANCELLED:
                yield f"{whose} was stopped; `manage.py restart {step.job_id} --failed` resumes it."
            case StepStatus.READY | StepStatus.PENDING:
                yield f"{whose} was stopped and handed back; the next start runs it again."
            case StepStatus.RUNNING:
                yield f"{whose} did not stop in time; the next start finds out what became of it."
            case _:
                pass
