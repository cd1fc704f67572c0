"""What buttons do: each calls one service for the user and reports the result."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from apps.adminkit.templatetags.adminkit import short
from apps.jobs import services
from apps.jobs.flow import restarts
from apps.jobs.models import Job
from apps.jobs.pages import job as admin_pages
from apps.workspaces.rights import sight_of
from engine.errors import StroemError
from engine.lifecycle import OPEN_JOB
from engine.rights import Right

MOST_CANCELLED = 200


@require_POST
def cancel(request: HttpRequest, job_id: UUID) -> HttpResponse:
    reason = _reason(request)
    return _act(
        request,
        job_id,
        lambda: services.cancel_job(
            job_id, actor=admin_pages.caller_of(request).email, reason=reason
        ),
        "Cancelling the job: waiting steps have ended, running steps were told to stop.",
    )


@require_POST
def restart(request: HttpRequest, job_id: UUID) -> HttpResponse:
    return _act(
        request,
        job_id,
        lambda: restarts.restart_failed(job_id, actor=admin_pages.caller_of(request).email),
        "The job restarts from its failed steps. Completed steps stay as they are.",
    )


def operates_somewhere(request: HttpRequest) -> bool:
    return admin_pages.caller_of(request).has_somewhere(Right.RUN)


def cancel_chosen(request: HttpRequest, chosen: QuerySet[Job]) -> HttpResponse | None:
    """Ask, then cancel those of the chosen jobs that are open and that the caller operates."""
    mine = sight_of(request.user).tasks(Right.RUN)
    jobs = chosen.filter(mine, status__in=OPEN_JOB)[: MOST_CANCELLED + 1]
    if "confirmed" not in request.POST:
        context = {
            **admin.site.each_context(request),
            "title": "Cancel jobs",
            "crumbs": [("Jobs", reverse("admin:jobs_job_changelist"))],
            "jobs": jobs[:MOST_CANCELLED],
            "has_more": len(jobs) > MOST_CANCELLED,
            "most": MOST_CANCELLED,
            "left_out": chosen.count() - len(jobs) if len(jobs) <= MOST_CANCELLED else 0,
            "opts": Job._meta,
        }
        return render(request, "jobs/cancel_many.html", context)
    cancelled, actor, reason = 0, admin_pages.caller_of(request).email, _reason(request)
    for job in jobs[:MOST_CANCELLED]:
        try:
            services.cancel_job(job.pk, actor=actor, reason=reason)
        except StroemError as error:
            messages.error(request, f"{job.task_name} {short(job.pk)}: {error}")
        else:
            cancelled += 1
    messages.success(request, f"Cancelling {cancelled} job{'' if cancelled == 1 else 's'}.")
    return None


def _reason(request: HttpRequest) -> str:
    given = " ".join(request.POST.get("reason", "").replace("\x00", "").split())
    return given[:500] or "Job cancelled"


def _act(
    request: HttpRequest, job_id: UUID, service: Callable[[], None], done: str
) -> HttpResponse:
    _, rights = admin_pages.found(request, job_id)
    if Right.RUN not in rights:
        raise PermissionDenied
    try:
        service()
    except StroemError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect(admin_pages.job_url(job_id))
