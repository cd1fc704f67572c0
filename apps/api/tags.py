"""ETags of jobs: callers that poll get 304 until something has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Count, Max
from rest_framework.request import Request

from apps.jobs.models import Job, StepEvent
from engine.rights import Rights


def tag_of(
    job: Job, actions: Sequence[Mapping[str, Any]], rights: Rights, *, with_steps: bool
) -> str:
    """Each move of the job or of a step leaves an event. Counted as well, since a lower id may be
    committed after a higher one. Who may see less has other tags."""
    events = StepEvent.objects.filter(job_id=job.pk).aggregate(Count("pk"), Max("pk"))
    known = (job.status, job.generation, job.retry_job_id, job.error, job.is_held, with_steps)
    text = repr((known, sorted(events.items()), list(actions), sorted(rights)))
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def is_known(request: Request, tag: str) -> bool:
    given = [one.strip() for one in request.headers.get("If-None-Match", "").split(",")]
    return tag in given or "*" in given
