"""The part of the commands' port that is about files of jobs, implemented on the database."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from apps.artifacts.files import shelf
from apps.jobs.models import Job
from console import port
from engine.errors import NotFound


class Files:
    def artifacts(self, job_id: UUID) -> list[port.ArtifactLine]:
        if not Job.objects.filter(pk=job_id).exists():
            raise NotFound("Job not found")
        return [
            port.ArtifactLine(
                one.name, one.step_name, one.content_type, one.size_bytes, one.created_at,
                one.blob.digest, one.is_program,
            )
            for one in shelf.of_job(job_id).select_related("blob")
        ]  # fmt: skip

    def artifact(self, job_id: UUID, name: str, step: str) -> Iterator[bytes]:
        from apps.artifacts import blobs  # storages, which other commands do not need

        found = shelf.find(job_id, name, step)
        if found is None:
            raise NotFound("Artifact not found")
        return blobs.pieces(found.blob)
