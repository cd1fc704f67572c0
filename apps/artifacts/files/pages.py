"""Artifacts on the page of their job, and a page for each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from apps.adminkit.policy import HEADER, POLICY
from apps.artifacts.errors import ForeignStorage, StorageAway
from apps.artifacts.files import shelf
from apps.artifacts.files.previews import Preview, preview_of
from apps.jobs.models import Job
from apps.jobs.pages.job import found, job_url, rights_on
from apps.workspaces.rights import insist
from engine.artifacts import address
from engine.rights import Right

MOST = 100
# Of our own address only: what is in the frame has an origin of its own, see `serving`.
WITH_FRAMES = f"{POLICY}; frame-src 'self'"


def job_panel(request: HttpRequest, job: Job) -> dict[str, Any] | None:
    if Right.INPUTS not in rights_on(request, job):
        return None  # the page says that files are hidden
    rows = list(shelf.of_job(job.pk)[: MOST + 1])
    if not rows:
        return None
    shown = rows[:MOST]
    more = shelf.of_job(job.pk).count() - MOST if len(rows) > MOST else 0
    files = [(row, address(str(job.pk), row.name, row.step_name)) for row in shown]
    return {"files": files, "more": more, "job": job, "zip": f"/api/jobs/{job.pk}/artifacts.zip"}


def artifact(request: HttpRequest, job_id: UUID, artifact_id: int) -> HttpResponse:
    """One file, with as much of it as can be shown."""
    job, rights = found(request, job_id)
    insist(rights, Right.INPUTS)
    row = shelf.of_job(job.pk).select_related("blob").filter(pk=artifact_id).first()
    if row is None:
        raise Http404("This job has no such artifact.")
    trouble = ""
    try:
        preview = preview_of(row)
    except (StorageAway, ForeignStorage) as error:
        preview, trouble = Preview("none"), str(error)
    url = address(str(job.pk), row.name, row.step_name)
    context = {
        **admin.site.each_context(request),
        "title": row.name,
        "crumbs": [
            ("Jobs", reverse("admin:jobs_job_changelist")),
            (job.task_name, job_url(job.pk)),
        ],
        "job": job,
        "row": row,
        "preview": preview,
        "trouble": trouble,
        "url": url,
        "frame": f"{url}&preview=true",
        "opts": Job._meta,
        "is_fullwidth": "1",
    }
    answer = render(request, "artifacts/artifact.html", context)
    answer.headers[HEADER] = WITH_FRAMES
    return answer
