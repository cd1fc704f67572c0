"""The page that removes a workspace, after it has said what goes with it. Superusers only."""

from __future__ import annotations

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from apps.jobs.models import Job
from apps.jobs.upkeep.removal import remove_workspace
from apps.workspaces.models import Revision, Secret, Workspace
from engine.errors import StroemError


def remove(request: HttpRequest, workspace: str) -> HttpResponse:
    if not request.user.is_superuser:
        raise PermissionDenied
    row = Workspace.objects.filter(name=workspace).first()
    if row is None:
        raise Http404("There is no such workspace.")
    if request.method == "POST":
        return _removed(request, row)
    counts = (
        ("job", Job.objects.filter(workspace=row).count()),
        ("revision", Revision.objects.filter(workspace=row).count()),
        ("stored secret", Secret.objects.filter(workspace=row).count()),
    )
    context = {
        **admin.site.each_context(request),
        "title": f"Remove {row.name}",
        "crumbs": [
            ("Workspaces", reverse("admin:workspaces_workspace_changelist")),
            (row.name, _page(row)),
        ],
        "row": row,
        "page": _page(row),
        "counts": counts,
    }
    return render(request, "jobs/remove_workspace.html", context)


def _removed(request: HttpRequest, row: Workspace) -> HttpResponse:
    try:
        jobs = remove_workspace(row.name)
    except StroemError as error:
        messages.error(request, f"{error}.")
        return redirect(_page(row))
    messages.success(request, f"Workspace {row.name} is removed, with {jobs} jobs.")
    return redirect(reverse("admin:workspaces_workspace_changelist"))


def _page(row: Workspace) -> str:
    return reverse("admin:workspaces_workspace_change", args=[row.pk])
