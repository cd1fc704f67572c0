"""What buttons do: each calls one service for the user and reports the result."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from apps.accounts.models import Role
from apps.jobs import services
from apps.jobs.flow import restarts
from apps.jobs.pages import job as admin_pages
from engine.errors import StroemError


@require_POST
def cancel(request: HttpRequest, job_id: UUID) -> HttpResponse:
    reason = (
        " ".join(request.POST.get("reason", "").replace("\x00", "").split())[:500]
        or "Job cancelled"
    )
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


def _act(
    request: HttpRequest, job_id: UUID, service: Callable[[], None], done: str
) -> HttpResponse:
    _, may_act = admin_pages.found(request, job_id, needed=Role.OPERATOR)
    if not may_act:
        raise PermissionDenied
    try:
        service()
    except StroemError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, done)
    return redirect(admin_pages.job_url(job_id))
