"""One workflow action on the page of its job: what it watches and does, its runs, its nodes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from apps.jobs import veils
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.contexts import redact
from apps.jobs.pages.job import found
from apps.workflow_actions.models import Member
from apps.workflow_actions.snapshots import action_json, seen_of

MOST_STEPS = 100
MOST_PARTS = 100
LARGEST_ID = 2**63 - 1
WORDS = {
    "on_workflow_start": "when the job starts",
    "on_workflow_complete": "when the job has ended",
    "on_jobs_ready": "when all of its steps are ready",
    "on_jobs_complete": "when all of its steps have ended",
    "on_worker_start": "when a worker comes to the job",
    "on_worker_complete": "when a worker leaves the job",
}


def action(request: HttpRequest, job_id: UUID, action_id: int) -> HttpResponse:
    """A fragment for the page of the job. Raises Http404 if the caller must not see it."""
    job, rights = found(request, job_id)
    seen = (
        seen_of(job.pk, blueprints.load(job.blueprint_id), action_id=action_id)
        if action_id <= LARGEST_ID
        else []
    )
    if not seen:
        raise Http404("This job has no such workflow action.")
    masked = redact(action_json(seen[0]), contexts.masks_of(job))
    one: dict[str, Any] = dict(veils.actions([masked], rights)[0])
    members = Member.objects.filter(action_id=action_id).order_by("reached_at", "id")
    context = {
        "job": job,
        "action": one,
        "commands": "\n".join(one["commands"]),
        "set_off": WORDS[one["trigger_type"]],
        "members": list(members[:MOST_STEPS]),
        "more_members": max(0, one["required"] - MOST_STEPS),
        "runs": one["runs"][-MOST_PARTS:],
        "more_runs": max(0, len(one["runs"]) - MOST_PARTS),
        "allocations": one["allocations"][-MOST_PARTS:],
        "more_allocations": max(0, len(one["allocations"]) - MOST_PARTS),
    }
    return render(request, "workflow_actions/action.html", context)
