"""The pages of one job: its head and graph, its steps as a list and a timeline, one step in
full."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.models import User
from apps.adminkit import panels
from apps.adminkit.paging import Beginning
from apps.adminkit.templatetags.adminkit import short
from apps.fleet.models import Worker
from apps.jobs import ports, veils
from apps.jobs.database.sql import fetch
from apps.jobs.flow.blueprints import load
from apps.jobs.log import tails
from apps.jobs.models import Attempt, Job, Step, StepEvent
from apps.jobs.pages import pictures
from apps.jobs.pages.hub import job_state
from apps.jobs.pages.standing import with_standing
from apps.workspaces.rights import sight_of
from engine.lifecycle import JobStatus, StepStatus
from engine.rights import Right, Rights

_BY_JOB = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})((?:/.*)?)", re.DOTALL)
ROWS = 100
MOST_BARS = 300
MOST_EVENTS = 200
COLUMNS = tails.STEPS.split("FROM", maxsplit=1)[0]
LISTED = """
FROM jobs_step WHERE job_id = %(job)s AND owner_kind = 'step'
    AND (%(status)s = '' OR status = %(status)s)
    AND (%(search)s = '' OR strpos(lower(name), %(search)s) > 0)
    AND (%(base)s::text[] IS NULL OR base = ANY(%(base)s))
"""
STEP_PAGE = (
    COLUMNS
    + LISTED
    + "ORDER BY position, loop_index NULLS FIRST, id LIMIT %(limit)s OFFSET %(offset)s"
)
STEP_COUNT = "SELECT count(*) " + LISTED
BARS = (
    COLUMNS
    + """FROM jobs_step WHERE job_id = %(job)s AND owner_kind = 'step'
    AND coalesce(started_at, suspended_at) IS NOT NULL
ORDER BY coalesce(started_at, suspended_at), id LIMIT %(limit)s"""
)


def caller_of(request: HttpRequest) -> User:
    """The caller; the admin site has already required a login."""
    assert isinstance(request.user, User)
    return request.user


def job_url(job_id: UUID) -> str:
    return reverse("admin:jobs_job_change", args=[job_id])


def found(request: HttpRequest, job_id: UUID) -> tuple[Job, Rights]:
    """The job, without what the caller must not see of it, and the caller's rights on it. Raises
    Http404 if there are none."""
    job = Job.objects.select_related("workspace", "revision", "started_by").defer(
        "input_sealed", "revision__definition", "revision__sealed_secrets"
    )
    row = job.filter(pk=job_id).first()
    if row is None or Right.SEE not in (rights := rights_on(request, row)):
        raise Http404("Job not found, or you may not see it.")
    return veils.job(row, rights), rights


def rights_on(request: HttpRequest, row: Job) -> Rights:
    """On a job that came with its workspace."""
    return sight_of(request.user).on(row.workspace.name, row.task_name)


def job(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The page of a job. The browser draws the graph and keeps it up to date."""
    row, rights = found(request, job_id)
    may_act = Right.RUN in rights
    picture = pictures.picture_of(row.blueprint_id)
    plan = load(row.blueprint_id)
    standings = pictures.counted(row.pk, picture) if picture.is_drawn else {}
    data = {
        "state": job_state(row),
        "hidden": veils.reasons(rights),
        "totals": pictures.totals(row.pk),
        "picture": pictures.drawing(picture, standings) if picture.is_drawn else None,
        "steps": _step_page(row.pk, {}, rights),
        "actions": _beside(row, rights),
        "urls": {
            "live": reverse("jobs_live", args=[row.pk]),
            "log": reverse("jobs_log", args=[row.pk]) if Right.LOGS in rights else "",
            "search": reverse("jobs_log_search", args=[row.pk]) if Right.LOGS in rights else "",
            "steps": reverse("admin:jobs_job_steps", args=[row.pk]),
            "timeline": reverse("admin:jobs_job_timeline", args=[row.pk]),
            "details": reverse("admin:jobs_job_details", args=[row.pk]),
            "job": job_url(UUID(int=0)),
        },
    }
    context = {
        **admin.site.each_context(request),
        "title": row.task_name,
        "crumbs": [("Jobs", reverse("admin:jobs_job_changelist"))],
        "job": row,
        "task": plan.task,
        "data": data,
        "may_act": may_act,
        "hidden": veils.reasons(rights),
        "state": "held" if row.is_held else row.status,
        "started_by": started_by(row),
        "is_open": row.status in (JobStatus.PENDING, JobStatus.RUNNING),
        "may_restart": may_act and row.status in (JobStatus.FAILED, JobStatus.CANCELLED),
        "statuses": [status.value for status in StepStatus],
        "opts": Job._meta,
        "is_fullwidth": "1",
        **_details(request, row, rights),
    }
    return render(request, "jobs/job_page.html", context)


def _beside(row: Job, rights: Rights) -> list[dict[str, Any]]:
    found = ports.shown_beside(row)
    return found if Right.LOGS in rights else [{**one, "reason": ""} for one in found]


def started_by(row: Job) -> SafeString | str:
    """Who or what started a job; another job (`ID` or `ID/STEP`) as a link to it."""
    by_job = _BY_JOB.fullmatch(row.source_id or "")
    if by_job:
        link = format_html('<a href="{}">{}</a>', job_url(UUID(by_job[1])), short(by_job[1]))
        return format_html("{}: {}{}", row.source_type, link, by_job[2])
    who = row.started_by.email if row.started_by else row.source_id or ""
    return f"{row.source_type}: {who}" if who else row.source_type


def details(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The parts of a job that change less often, as a fragment."""
    row, rights = found(request, job_id)
    context = {"job": row, "hidden": veils.reasons(rights), **_details(request, row, rights)}
    return render(request, "jobs/details.html", context)


def _details(request: HttpRequest, row: Job, rights: Rights) -> dict[str, Any]:
    seen = sight_of(request.user).tasks()
    return {
        "relatives": _relatives(row, seen),
        "panels": panels.job_page.show(request, row),
        "events": _events(row, None),
        "children": Beginning(
            with_standing(Job.objects.filter(seen, parent_job_id=row.pk))
            .order_by("created_at", "id")
            .only("task_name", "status", "parent_step_name"),
            ROWS,
        ),
    }


def _events(row: Job, step_id: int | None) -> Beginning[StepEvent]:
    rows = StepEvent.objects.filter(job_id=row.pk, step_id=step_id).order_by("id")
    return Beginning(rows, MOST_EVENTS)


def _relatives(row: Job, seen: Q) -> list[tuple[str, UUID, str]]:
    """Jobs that led to this one or came from it: (relation, id, status)."""
    wanted = {
        "Parent job": row.parent_job_id,
        "Run again from": row.rerun_of_id,
        "Retry of": row.retry_of_id,
        "Retried as": row.retry_job_id,
    }
    ids = [job_id for job_id in wanted.values() if job_id]
    known = dict(Job.objects.filter(seen, pk__in=ids).values_list("pk", "status")) if ids else {}
    return [(what, job_id, known[job_id]) for what, job_id in wanted.items() if job_id in known]


def steps(request: HttpRequest, job_id: UUID) -> JsonResponse:
    """One page of the list of steps as JSON. `page`, `status`, `q`, and `node` (index of a folded
    node) select."""
    row, rights = found(request, job_id)
    return JsonResponse(_step_page(row.pk, request.GET, rights, row.blueprint_id))


def _step_page(
    job_id: UUID, given: Any, rights: Rights, blueprint_id: int | None = None
) -> dict[str, Any]:
    page = _number(given.get("page"))
    node = given.get("node") or ""
    base = None
    if node.isascii() and node.isdigit() and blueprint_id is not None:
        nodes = pictures.picture_of(blueprint_id).nodes
        base = list(nodes[int(node[:6])].bases) if int(node[:6]) < len(nodes) else []
    params = {
        "job": job_id,
        "status": (given.get("status") or "").replace("\x00", ""),
        "search": (given.get("q") or "").strip().lower().replace("\x00", "")[:200],
        "base": base,
        "limit": ROWS,
        "offset": page * ROWS,
    }
    rows = [_brief(found, rights) for found in fetch(STEP_PAGE, params)]
    return {"rows": rows, "page": page, "size": ROWS, "total": fetch(STEP_COUNT, params)[0][0]}


def _brief(row: tuple[Any, ...], rights: Rights) -> dict[str, Any]:
    brief = tails.brief(row)
    return brief if Right.LOGS in rights else {**brief, "error": ""}


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 7 else 0


def timeline(request: HttpRequest, job_id: UUID) -> JsonResponse:
    """The first steps to begin, as bars."""
    row, rights = found(request, job_id)
    rows = [_brief(found, rights) for found in fetch(BARS, {"job": row.pk, "limit": MOST_BARS})]
    tries = _tries([brief["id"] for brief in rows if brief["attempts"] > 1])
    for brief in rows:
        brief["tries"] = tries.get(brief["id"], [])
    begun = Step.objects.filter(job_id=row.pk).exclude(started_at=None, suspended_at=None).count()
    return JsonResponse({"rows": rows, "total": begun})


def _tries(step_ids: list[int]) -> dict[int, list[dict[str, Any]]]:
    """Every attempt of these steps, for their bars."""
    found: dict[int, list[dict[str, Any]]] = {}
    if step_ids:
        rows = Attempt.objects.filter(step_id__in=step_ids).order_by("step_id", "fence")
        for step_id, status, claimed, ended in rows.values_list(
            "step_id", "status", "claimed_at", "ended_at"
        ):
            found.setdefault(step_id, []).append(
                {"status": status, "started": claimed, "ended": ended}
            )
    return found


def step(request: HttpRequest, job_id: UUID, step_id: int) -> HttpResponse:
    """One step in full, as a fragment for the page of its job."""
    row, rights = found(request, job_id)
    one = Step.objects.filter(pk=step_id, job_id=row.pk).defer("output_sealed").first()
    if one is None:
        raise Http404("This job has no such step.")
    veils.steps([one], rights)
    node = load(row.blueprint_id).nodes.get(one.base)
    attempts = list(Attempt.objects.filter(step_id=one.pk).order_by("fence"))
    veils.attempts(attempts, rights)
    workers = Worker.objects.in_bulk({attempt.worker_id for attempt in attempts})
    instances = (
        Step.objects.filter(loop_id=one.pk)
        .values_list("status")
        .annotate(count=Count("pk"))
        .order_by("status")
        if one.loop_total is not None and one.loop_index is None
        else ()
    )
    context = {
        "job": row,
        "step": one,
        "node": node,
        "attempts": [(attempt, workers.get(attempt.worker_id)) for attempt in attempts],
        "events": _events(row, one.pk),
        "instances": list(instances),
        "may_act": Right.RUN in rights,
        "hidden": veils.reasons(rights),
        "panels": panels.step_page.show(request, row, one),
    }
    return render(request, "jobs/step.html", context)
