"""The page of a state: its values and files, its versions, how two of them differ."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from apps.accounts.models import signed_in
from apps.adminkit.paging import Beginning
from apps.artifacts.models import State, StateVersion
from apps.artifacts.state import history
from apps.artifacts.state.history import Shown
from apps.jobs.models import Job
from apps.workspaces.models import Workspace
from apps.workspaces.rights import insist, sight_of
from engine.errors import StroemError
from engine.rights import Right, Rights

NOT_WHOLE = "The workspace's own state is for those who may see the inputs of the whole workspace"
LISTED = 50
FILES = 200


def page(request: HttpRequest, workspace: str, name: str = "") -> HttpResponse:
    """Of a task, or of the workspace without one. `version` chooses one, `against` another one to
    compare it with."""
    row, state, held = _found(request, workspace, name, Right.INPUTS)
    versions: Beginning[StateVersion] = Beginning(history.versions(state), LISTED)
    jobs = Job.objects.filter(pk__in=[one.job_id for one in versions if one.job_id])
    shown = _chosen(request, state)
    against = _number(request, "against")
    if against is None:
        against = max((one.number for one in versions if one.number < shown.version), default=0)
    context = {
        **admin.site.each_context(request),
        "title": f"State of {name or row.name}",
        "crumbs": _crumbs(row, name),
        "workspace": row,
        "name": name,
        "state": state,
        "shown": shown,
        "files": shown.files[:FILES],
        "more_files": max(len(shown.files) - FILES, 0),
        "against": against,
        "differences": _compared(state, against, shown),
        "versions": versions,
        "jobs": set(jobs.values_list("pk", flat=True)),
        "may_write": _writer(name) in held,
        "archive": _archive(row, name, shown),
    }
    return render(request, "artifacts/state.html", context)


@require_POST
def restore(request: HttpRequest, workspace: str, name: str = "") -> HttpResponse:
    row, _, _ = _found(request, workspace, name, _writer(name))
    number = _number(request, "version", post=True)
    try:
        made = history.restore(row.pk, name, number or 0, by=signed_in(request.user).email)
        messages.success(request, f"Version {number} is back, as version {made.number}.")
    except StroemError as error:
        messages.error(request, f"{error}.")
    return redirect(address(row.name, name))


def address(workspace: str, name: str) -> str:
    return reverse("state", args=[workspace, name] if name else [workspace])


def panel(request: HttpRequest, workspace: Workspace, name: str = "") -> dict[str, Any] | None:
    """For the pages of a task and of a workspace: a link, if there is something to see."""
    if Right.INPUTS not in sight_of(request.user).on(workspace.name, name):
        return None
    state = history.find(workspace.pk, name)
    if state is None:
        return None
    return {
        "version": state.version,
        "keys": len(state.values),
        "files": state.files,
        "address": address(workspace.name, name),
    }


def _found(
    request: HttpRequest, workspace: str, name: str, needed: Right
) -> tuple[Workspace, State | None, Rights]:
    sight = sight_of(request.user)
    row = Workspace.objects.filter(name=workspace).first()
    held = sight.on(workspace, name)
    if row is None or not sight.sees(workspace) or (name and Right.SEE not in held):
        raise Http404("Workspace or task not found, or you may not see it.")
    insist(held, needed, NOT_WHOLE if needed is Right.INPUTS and not name else "")
    return row, history.find(row.pk, name), held


def _writer(name: str) -> Right:
    return Right.RUN if name else Right.MANAGE


def _chosen(request: HttpRequest, state: State | None) -> Shown:
    number = _number(request, "version")
    if number is None or (state is not None and number == state.version):
        return history.newest(state)
    try:
        return history.version(state, number)
    except StroemError as error:
        raise Http404(str(error)) from None


def _compared(state: State | None, against: int, shown: Shown) -> list[Any] | None:
    """None if one of the versions is not kept."""
    try:
        return history.compare(state, against, shown.version)
    except StroemError:
        return None


def _number(request: HttpRequest, key: str, *, post: bool = False) -> int | None:
    text = (request.POST if post else request.GET).get(key, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _crumbs(row: Workspace, name: str) -> list[tuple[str, str]]:
    if name:
        return [("Tasks", reverse("tasks")), (name, reverse("task", args=[row.name, name]))]
    page_of = reverse("admin:workspaces_workspace_change", args=[row.pk])
    return [("Workspaces", reverse("admin:workspaces_workspace_changelist")), (row.name, page_of)]


def _archive(row: Workspace, name: str, shown: Shown) -> str:
    of = f"/tasks/{quote(name, safe='')}" if name else ""
    return f"/api/workspaces/{quote(row.name, safe='')}{of}/state/archive?version={shown.version}"
