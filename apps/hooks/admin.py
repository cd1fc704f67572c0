"""Job page: the hooks that the job fired, and their jobs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest

from apps.adminkit import panels
from apps.adminkit.paging import Beginning
from apps.hooks.models import HookRun
from apps.jobs.models import Job
from apps.jobs.pages.job import rights_on
from apps.workspaces.rights import sight_of
from engine.rights import Right

MOST = 100


def job_panel(request: HttpRequest, job: Job) -> dict[str, Any] | None:
    fired = HookRun.objects.filter(job_id=job.pk).order_by("fired_at", "index")
    rows: Beginning[HookRun] = Beginning(fired, MOST)
    if not rows:
        return None
    seen = sight_of(request.user).tasks()
    started = Job.objects.filter(seen, pk__in=[row.hook_job_id for row in rows])
    statuses: dict[UUID | None, str] = dict(started.values_list("pk", "status"))
    return {
        "rows": rows,
        "runs": [(row, statuses.get(row.hook_job_id)) for row in rows],
        "with_errors": Right.LOGS in rights_on(request, job),
    }


panels.job_page.add("hooks/job_panel.html", job_panel, order=20)
