"""Artifacts of a job, without a worker."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping

from django.utils import timezone

from apps.artifacts import blobs
from apps.artifacts.models import Artifact
from apps.jobs.models import Attempt, Job, Step
from engine import artifacts as rules


def shelve(
    job: Job, step: str, files: Mapping[str, bytes], *, status: str = "completed", fence: int = 99
) -> list[Artifact]:
    """What an attempt of this step, which has ended so, has left."""
    blobs.establish()
    row, now = Step.objects.get(job_id=job.pk, name=step), timezone.now()
    attempt = Attempt.objects.create(
        step_id=row.pk, job_id=job.pk, fence=fence, worker_id=uuid.uuid4(), status=status,
        lease_until=now, claimed_at=now, ended_at=now,
    )  # fmt: skip
    return [
        Artifact.objects.create(
            job_id=job.pk, workspace_id=job.workspace_id, step_id=row.pk, step_name=row.name,
            base=row.base, attempt_id=attempt.pk, name=name, blob_id=blobs.put(io.BytesIO(data)).id,
            content_type=rules.type_of(name, data[: rules.HEAD_BYTES]), size_bytes=len(data),
            has_failed=status == "failed",
        )
        for name, data in files.items()
    ]  # fmt: skip
