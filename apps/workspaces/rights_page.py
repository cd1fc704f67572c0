"""The page "what may this person do, and why", and the other way round for one task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from apps.accounts.models import User, WorkspaceGrant
from apps.workspaces import explaining
from apps.workspaces.models import WHOLE, TaskList, Workspace
from engine.rights import MEANINGS, Right, Verdict, matches, path_of

MOST_ROWS, MOST_NAMES, MOST_EMAILS = 200, 10, 500


@dataclass(frozen=True, slots=True)
class Reason:
    """Rights that one thing has decided: a grant, or a sentence."""

    rights: str
    because: str
    grant: WorkspaceGrant | None


@dataclass(frozen=True, slots=True)
class Line:
    """One task, or one person, with what they may and may not, and why."""

    of: Any
    may: list[Reason]
    may_not: list[Reason]


def page(request: HttpRequest) -> HttpResponse:
    """`person`: an e-mail; `workspace` and `task`: who may do what with it. Superusers only."""
    if not request.user.is_superuser:
        raise PermissionDenied
    given = {
        name: request.GET.get(name, "").strip() for name in ("person", "workspace", "task", "q")
    }
    context = {
        **admin.site.each_context(request),
        "title": "Rights",
        "given": given,
        "meanings": MEANINGS.items(),
        "workspaces": Workspace.objects.order_by("name").values_list("name", flat=True),
        "emails": User.objects.order_by("email").values_list("email", flat=True)[:MOST_EMAILS],
        **_found(given),
    }
    return render(request, "workspaces/rights.html", context)


def _found(given: dict[str, str]) -> dict[str, Any]:
    workspaces = Workspace.objects.order_by("name")
    if given["workspace"]:
        workspaces = workspaces.filter(name=given["workspace"])
        if not workspaces:
            raise Http404("There is no such workspace.")
    if given["person"]:
        person = User.objects.with_email(given["person"]).first()
        if person is None:
            return {"nobody": given["person"]}
        rows = explaining.of_person(person, workspaces)
        term = given["q"].lower()
        fitting = [one for one in rows if term in _name(one).lower()]
        shown = fitting[:MOST_ROWS]
        return {
            "person": person,
            "lines": _lines((one, one.verdicts) for one in shown),
            "more": len(fitting) - len(shown),
        }
    if given["workspace"]:
        (workspace,) = workspaces
        if given["task"] and given["task"] not in _tasks(workspace):
            raise Http404("The workspace has no such task.")
        people = explaining.on_task(workspace, given["task"])
        shown_people = people[:MOST_ROWS]
        return {
            "on": workspace,
            "lines": _lines((one.person, one.verdicts) for one in shown_people),
            "more": len(people) - len(shown_people),
        }
    return {}


def _name(one: explaining.TaskVerdicts) -> str:
    return f"{one.workspace}/{path_of(one.task, one.folder)}"


def _tasks(workspace: Workspace) -> dict[str, Any]:
    known = TaskList.objects.filter(pk=workspace.pk).first()
    return dict(known.tasks) if known else {}


def _lines(rows: Iterable[tuple[Any, explaining.Verdicts]]) -> list[Line]:
    found = list(rows)
    ids = {one.rule.id for _, told in found for one in told.values() if one.rule is not None}
    grants = WorkspaceGrant.objects.select_related("user", "group").in_bulk(ids)
    return [
        Line(of, _reasons(told, grants, allowed=True), _reasons(told, grants, allowed=False))
        for of, told in found
    ]


def _reasons(
    told: explaining.Verdicts, grants: dict[int, WorkspaceGrant], *, allowed: bool
) -> list[Reason]:
    by_verdict: dict[Verdict, list[Right]] = {}
    for right, verdict in told.items():
        if verdict.allowed is allowed:
            by_verdict.setdefault(verdict, []).append(right)
    return [
        Reason(
            ", ".join(rights),
            verdict.because,
            grants.get(verdict.rule.id) if verdict.rule is not None else None,
        )
        for verdict, rights in by_verdict.items()
    ]


def matching_tasks(request: HttpRequest) -> JsonResponse:
    """Which tasks a pattern of a grant is for: a sentence for the page of grants."""
    if not request.user.is_superuser:
        raise PermissionDenied
    pattern = request.GET.get("pattern", "")[:400]
    rows = TaskList.objects.order_by("workspace__name").values_list("workspace__name", "tasks")
    found = [
        f"{workspace}: {path}"
        for workspace, tasks in rows
        for path in sorted(
            path_of(name, where[0]) for name, where in tasks.items() if name != WHOLE
        )
        if matches(pattern, path)
    ]
    more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    listed = f"In all workspaces, matches {', '.join(found[:MOST_NAMES])}{more}."
    return JsonResponse({"sentence": listed if found else "Matches no task so far."})
