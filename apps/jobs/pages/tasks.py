"""Tasks: the list, and the form that starts one, also prefilled from an earlier job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.adminkit import panels
from apps.adminkit.typed_forms import TypedForm
from apps.jobs import services
from apps.jobs.flow.contexts import clear_input
from apps.jobs.flow.obstacles import most_jobs
from apps.jobs.models import Job
from apps.jobs.pages import job as admin_pages
from apps.jobs.pages.standing import with_standing
from apps.workspaces.connections import kinds_in, offered
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definitions_of
from apps.workspaces.rights import insist, sight_of, workspaces_of
from engine.errors import InputError, StroemError
from engine.masking import MASK
from engine.rights import Right, Rights
from engine.spec.fields import PRIMITIVES
from engine.spec.model import Task
from engine.spec.model import Workspace as Definition

RECENT = 10
_NEWEST = """
SELECT newest.id FROM unnest(%s::bigint[], %s::text[]) wanted(workspace_id, task_name)
CROSS JOIN LATERAL (
    SELECT id FROM jobs_job
    WHERE workspace_id = wanted.workspace_id AND task_name = wanted.task_name
    ORDER BY created_at DESC LIMIT 1
) newest
"""


def tasks(request: HttpRequest) -> HttpResponse:
    """All tasks that the caller may see, by workspace, with the last run of each. Three queries."""
    rows = list(workspaces_of(request.user).order_by("name"))
    read = definitions_of([row.current_id for row in rows if row.current_id])
    sight = sight_of(request.user)
    seen = {
        row.pk: {
            name: task
            for name, task in read.get(row.current_id or 0, Definition()).tasks.items()
            if Right.SEE in sight.on(row.name, name)
        }
        for row in rows
    }
    last = _last_jobs([(row.pk, name) for row in rows for name in seen[row.pk]])
    term = request.GET.get("q", "").strip().lower()
    groups = []
    for row in rows:
        found = [
            {
                "name": name,
                "task": task,
                "last": last.get((row.pk, name)),
                "steps": len(task.flow),
                "may_start": Right.RUN in sight.on(row.name, name),
            }
            for name, task in sorted(
                seen[row.pk].items(), key=lambda item: (item[1].folder or "", item[0])
            )
            if term in f"{row.name}/{name} {task.title or ''}".lower()
        ]
        if found or not term:
            groups.append({"workspace": row, "tasks": found})
    context = {
        **admin.site.each_context(request),
        "title": "Tasks",
        "groups": groups,
        "term": request.GET.get("q", ""),
    }
    return render(request, "jobs/tasks.html", context)


def _last_jobs(tasks: list[tuple[int, str]]) -> dict[tuple[int, str], Job]:
    """The newest job of each task, a workspace's id and a name. One look at the index for each: a
    maximum by group would read every job."""
    wanted = [[key for key, _ in tasks], [name for _, name in tasks]]
    ids = [row.pk for row in Job.objects.raw(_NEWEST, wanted)]
    jobs = with_standing(Job.objects.filter(pk__in=ids).defer("input_sealed", "input", "output"))
    return {(job.workspace_id, job.task_name): job for job in jobs}


def task(request: HttpRequest, workspace: str, name: str) -> HttpResponse:
    """One task: description, recent jobs, and the form that starts it. `from=` prefills the input
    of a job."""
    row, definition, of, held = _found(request, workspace, name)
    source = _source(request, row, name)
    if source is not None:
        insist(held, Right.INPUTS)
    may_start = of.manual and Right.RUN in held
    before = source.input if source else None
    offers = _offers(row, definition, of)
    form = TypedForm(
        of.input,
        request.POST if request.method == "POST" else None,
        before=before,
        connections=offers,
    )
    if request.method == "POST":
        if not may_start:
            raise PermissionDenied
        try:
            job = _start(request, row, name, form.given(), source)
        except InputError as error:
            form.refuse(error)
        except StroemError as error:
            form.refuse(InputError({"": str(error)}))
        else:
            messages.success(request, "Job started.")
            return redirect(admin_pages.job_url(job.pk))
    recent = (
        Job.objects.filter(workspace=row, task_name=name)
        .order_by("-created_at")
        .select_related("started_by")
    )
    context = {
        **admin.site.each_context(request),
        "title": of.title or name,
        "crumbs": [("Tasks", reverse("tasks"))],
        "workspace": row,
        "name": name,
        "task": of,
        "form": form,
        "source": source,
        "may_start": may_start,
        "most_jobs": most_jobs(of),
        "recent": with_standing(recent.defer("input", "input_sealed", "output"))[:RECENT],
        "triggers": _triggers(definition, name),
        "panels": panels.task_page.show(request, row, name),
    }
    return render(request, "jobs/task.html", context)


def _found(
    request: HttpRequest, workspace: str, name: str
) -> tuple[Workspace, Definition, Task, Rights]:
    sight = sight_of(request.user)
    row = Workspace.objects.filter(name=workspace).first()
    if row is None or not sight.sees(workspace) or row.current_id is None:
        raise Http404("Workspace not found, or you may not see it.")
    definition = definitions_of([row.current_id])[row.current_id]
    held = sight.on(workspace, name)
    if name not in definition.tasks or Right.SEE not in held:
        raise Http404("The workspace does not have this task, or you may not see it.")
    return row, definition, definition.tasks[name], held


def _source(request: HttpRequest, row: Workspace, name: str) -> Job | None:
    """The job whose input the form begins with; a note if there is none of this task."""
    wanted = request.GET.get("from", "")
    if not wanted:
        return None
    found = None
    with suppress(ValueError):
        found = Job.objects.filter(pk=UUID(wanted), workspace=row, task_name=name).first()
    if found is None:
        messages.warning(
            request, "This task has no job with the id in the address: nothing is filled in."
        )
    return found


def _start(
    request: HttpRequest,
    workspace: Workspace,
    name: str,
    given: Mapping[str, Any],
    source: Job | None,
) -> Job:
    if source is None:
        return services.start_job(
            workspace.name, name, given, source_type="user", user=admin_pages.caller_of(request)
        )
    before = clear_input(source)
    values = {
        key: before[key] if value == MASK and key in before else value
        for key, value in given.items()
    }
    return services.rerun_job(source.pk, actor=admin_pages.caller_of(request), given=values)


def _offers(row: Workspace, definition: Definition, of: Task) -> dict[str, list[str]]:
    """Names of connections by type, for the types that the task uses."""
    wanted = {field.type for field in of.input.values()} - set(PRIMITIVES)
    return offered(kinds_in(row.pk, definition), wanted) if wanted else {}


def _triggers(definition: Definition, name: str) -> list[tuple[str, Any]]:
    """The triggers that start the task."""
    return [
        (key, found)
        for key, found in definition.triggers.items()
        if name in (found.options.get("task"), found.options.get("target_task"))
    ]
