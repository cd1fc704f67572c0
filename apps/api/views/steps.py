"""Steps of a job: a page of them, or all in batches."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.paging import window
from apps.api.shapes.base import ErrorShape, answer
from apps.api.shapes.jobs import StepPage, StepRow, Try
from apps.api.views.base import CURSOR, LIMIT, ApiView, chosen, one_of
from apps.approvals.answers import fields_of
from apps.approvals.models import ApprovalRequest
from apps.fleet.models import Worker
from apps.jobs import veils
from apps.jobs.flow import blueprints
from apps.jobs.models import Attempt, Job, Step
from engine.lifecycle import RequestStatus, StepStatus
from engine.rights import Right, Rights
from engine.spec.model import InputField

BATCH = 500
LARGE = ("output_sealed", "loop_item", "dependents")
STATUSES = tuple(status.value for status in StepStatus)
_CURSOR = re.compile(r"([0-9]{1,9})~(-1|[0-9]{1,9})~([0-9]{1,18})")


class StepsView(ApiView):
    """In flow order, the instances of a loop after it; `next` leads to the next page."""

    query = {**LIMIT, **CURSOR, "status": one_of(STATUSES)}

    @extend_schema(
        operation_id="steps_list",
        parameters=[
            OpenApiParameter("limit", int),
            OpenApiParameter("cursor", str),
            OpenApiParameter("status", str, enum=STATUSES),
        ],
        responses={200: StepPage, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job)
        rights = scope.rights(request.user, row)
        found = Step.objects.filter(job_id=row.pk)
        if status := chosen(request, "status", STATUSES):
            found = found.filter(status=status)
        part = window(request)
        ordered = _ordered(found).filter(_after(request))
        steps = list(ordered.defer(*LARGE)[: part.stop - part.start])
        is_full = len(steps) == part.stop - part.start
        page = {
            "items": _rows(row, steps, rights),
            "total": found.count(),
            "next": _cursor(steps[-1]) if is_full and steps else None,
            "hidden": veils.reasons(rights),
        }
        return answer(StepPage, page)


def step_rows(job: Job, rights: Rights) -> Iterator[list[StepRow]]:
    """All steps of the job, in batches, since there may be 10,000."""
    ordered = _ordered(Step.objects.filter(job_id=job.pk)).defer(*LARGE)
    with transaction.atomic():  # a server-side cursor needs a transaction
        steps = ordered.iterator(chunk_size=BATCH)
        while batch := list(islice(steps, BATCH)):
            yield _rows(job, batch, rights)


def _ordered(rows: QuerySet[Step]) -> Any:
    return rows.annotate(place=Coalesce(F("loop_index"), -1)).order_by("position", "place", "id")


def _after(request: Request) -> Q:
    given = request.query_params.get("cursor")
    if not given:
        return Q()
    found = _CURSOR.fullmatch(given)
    if found is None:
        raise ParseError("cursor must be the `next` of an earlier answer")
    position, place, step_id = map(int, found.groups())
    later = Q(place__gt=place) | Q(place=place, id__gt=step_id)
    return Q(position__gt=position) | (Q(position=position) & later)


def _cursor(step: Step) -> str:
    place = -1 if step.loop_index is None else step.loop_index
    return f"{step.position}~{place}~{step.pk}"


def _rows(job: Job, steps: list[Step], rights: Rights) -> list[StepRow]:
    plan = blueprints.load(job.blueprint_id)
    tries = _tries([step.pk for step in steps if step.fence > 1 or step.retry_at])
    forms = _forms(steps) if Right.INPUTS in rights else {}
    veils.steps(steps, rights)
    veils.attempts((one.row for rows in tries.values() for one in rows), rights)
    return [
        StepRow(step, plan.nodes.get(step.base), tries[step.pk], forms.get(step.pk), rights)
        for step in steps
    ]


def _forms(steps: list[Step]) -> dict[int, dict[str, InputField]]:
    """What agents that wait for a person ask to fill in."""
    waiting = [
        step.pk for step in steps if step.kind == "agent" and step.status == StepStatus.SUSPENDED
    ]
    if not waiting:
        return {}
    rows = ApprovalRequest.objects.filter(step_id__in=waiting, status=RequestStatus.OPEN)
    return {row.step_id: dict(fields_of(row)) for row in rows}


def _tries(step_ids: list[int]) -> defaultdict[int, list[Try]]:
    """The attempts of these steps, oldest first."""
    tries: defaultdict[int, list[Try]] = defaultdict(list)
    if step_ids:
        attempts = list(Attempt.objects.filter(step_id__in=step_ids).order_by("step_id", "fence"))
        workers = Worker.objects.filter(pk__in={row.worker_id for row in attempts})
        names = dict(workers.values_list("pk", "name"))
        for row in attempts:
            tries[row.step_id].append(Try(row, names.get(row.worker_id, "")))
    return tries
