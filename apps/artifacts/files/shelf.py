"""Which artifacts count: those of the attempt with which a step has ended last.

A worker stores files before it reports the end, so that no step completes without them. Until the
platform has accepted that end, and if it never does, they are nobody's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from django.conf import settings
from django.db.models import Case, Exists, OuterRef, QuerySet, Value, When
from django.db.models.lookups import Exact

from apps.artifacts.models import Artifact
from apps.artifacts.values import Taken
from apps.jobs.models import Attempt
from apps.jobs.ports import File
from engine.artifacts import address
from engine.lifecycle import AttemptStatus

COUNT = (AttemptStatus.COMPLETED, AttemptStatus.FAILED)


def own() -> QuerySet[Attempt]:
    """The attempt of a row, if it has ended as its worker told: one that had run out of time when
    its success was reported has failed, and leaves nothing."""
    told = Case(
        When(Exact(OuterRef("has_failed"), True), then=Value(AttemptStatus.FAILED)),
        default=Value(AttemptStatus.COMPLETED),
    )
    return Attempt.objects.filter(pk=OuterRef("attempt_id"), status=told)


def later() -> QuerySet[Attempt]:
    """Attempts of the same step that ended after that of a row."""
    return Attempt.objects.filter(
        step_id=OuterRef("step_id"), id__gt=OuterRef("attempt_id"), status__in=COUNT
    )


def of_job(job_id: UUID, bases: Collection[str] | None = None) -> QuerySet[Artifact]:
    """The artifacts of a job, or of these steps of its flow, in the order of their storing."""
    found = Artifact.objects.filter(Exists(own()), ~Exists(later()), job_id=job_id)
    return (found if bases is None else found.filter(base__in=bases)).order_by("id")


def taken(job_id: UUID, bases: Collection[str]) -> list[Taken]:
    """What these steps of the job have left, for a step that takes it."""
    return [
        Taken(one.step_name, one.name, one.blob_id, one.size_bytes, one.is_program)
        for one in of_job(job_id, bases)
    ]


def find(job_id: UUID, name: str, step: str | None = None) -> Artifact | None:
    """The artifact with this name; without a step, the newest."""
    found = of_job(job_id).filter(name=name)
    return (found if step is None else found.filter(step_name=step)).last()


def listed(job_id: UUID, nodes: Collection[str] | None) -> list[File]:
    """For templates and hooks."""
    found = list(of_job(job_id, nodes))
    twice = ambiguous(found) if nodes is None else frozenset(one.name for one in found)
    return [
        File(
            one.step_name, one.base, one.name, one.content_type, one.size_bytes, one.created_at,
            settings.BASE_URL
            + address(str(job_id), one.name, one.step_name if one.name in twice else None),
        )
        for one in found
    ]  # fmt: skip


def ambiguous(found: Iterable[Artifact]) -> frozenset[str]:
    """The names that several steps have given."""
    seen: set[str] = set()
    twice = {one.name for one in found if one.name in seen or seen.add(one.name)}  # type: ignore[func-returns-value]
    return frozenset(twice)
