"""Jobs: the list, and the pages of one job. Rows are never edited by hand; changes go through
services."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.adminkit.badges import badge
from apps.adminkit.counted import MOST_COUNTED, CountedFilter
from apps.adminkit.paging import BoundedPaginator
from apps.adminkit.templatetags.adminkit import lasting, moment, short
from apps.jobs.models import Job
from apps.jobs.pages import buttons as admin_actions
from apps.jobs.pages import dashboard
from apps.jobs.pages import job as admin_pages
from apps.jobs.pages.standing import IS_WAITING, with_standing
from apps.workspaces.rights import workspaces_of
from apps.workspaces.scoped import ScopedAdmin
from engine.lifecycle import OPEN_JOB, JobStatus

_ID = re.compile(r"[0-9a-f]{4,32}")
WAITING = "waiting"
MOST_OFFERED = 200  # workspaces to choose from
HEAVY = ("input", "input_sealed", "output", "error", "cancel_reason")


class StatusFilter(CountedFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        statuses = [(status.value, status.value) for status in JobStatus]
        return [("open", "open"), (WAITING, "waiting for a person"), *statuses]

    def chosen(self, rows: QuerySet[Job], value: str | None, request: HttpRequest) -> QuerySet[Job]:
        if value == "open":
            return rows.filter(status__in=OPEN_JOB)
        if value == WAITING:
            return rows.filter(IS_WAITING, status=JobStatus.RUNNING)
        return rows.filter(status=value) if value in {s.value for s in JobStatus} else rows

    def count(self, rows: QuerySet[Job], value: str | None) -> str | None:
        if value != WAITING:
            return super().count(rows, value)
        # No index finds them, but they are among those that run.
        running = rows.filter(status=JobStatus.RUNNING).values_list("pk", flat=True)
        found = list(running[: MOST_COUNTED + 1])
        if len(found) > MOST_COUNTED:
            return None
        return f"{Job.objects.filter(IS_WAITING, pk__in=found).count():,}"


class SourceFilter(admin.SimpleListFilter):
    title = "source"
    parameter_name = "source_type"
    KINDS = (
        "user",
        "api",
        "cli",
        "trigger",
        "webhook",
        "event_source",
        "consumer",
        "task",
        "hook",
        "check",
        "mcp",
        "agent_tool",
        "upload",
        "rerun",
        "retry",
    )

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind.replace("_", " ")) for kind in self.KINDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(source_type=self.value()) if self.value() in self.KINDS else queryset


class WorkspaceFilter(admin.SimpleListFilter):
    title = "workspace"
    parameter_name = "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        seen = workspaces_of(request.user).order_by("name").values_list("name", flat=True)
        names = list(seen[:MOST_OFFERED])
        asked = self.used_parameters.get(self.parameter_name)
        if asked not in names:
            names += seen.filter(name=asked)
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(workspace__name=self.value()) if self.value() else queryset


@admin.register(Job)
class JobAdmin(ScopedAdmin[Job]):
    list_display = ("state", "task", "workspace_name", "source", "created", "duration")
    list_display_links = ("state",)
    list_filter = (StatusFilter, WorkspaceFilter, SourceFilter)
    list_per_page = 50
    paginator = BoundedPaginator  # and only the indexed column sorts
    search_fields = ("task_name",)
    search_help_text = "Task name, or the first digits of a job id"
    ordering = ("-created_at", "-id")
    list_fullwidth = True
    list_before_template = "adminkit/list_tabs.html"
    when_empty = "No jobs yet. Start one from a task."
    actions = ("cancel_chosen",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        rows = super().get_queryset(request).select_related("workspace", "started_by")
        return with_standing(rows.defer(*HEAVY))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        term = search_term.strip().replace("\x00", "")
        digits = term.lower().replace("-", "")
        if _ID.fullmatch(digits):
            first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
            if queryset.filter(pk__gte=first, pk__lte=last).exists():
                return queryset.filter(pk__gte=first, pk__lte=last), False
        return (queryset.filter(task_name__icontains=term) if term else queryset), False

    def get_urls(self) -> list[URLPattern]:
        def page(route: str, view: Any, name: str) -> URLPattern:
            shown = self.admin_site.admin_view(view)
            found: URLPattern = path(f"<uuid:job_id>/{route}", shown, name=f"jobs_job_{name}")
            return found

        return [
            page("steps/", admin_pages.steps, "steps"),
            page("steps/<int:step_id>/", admin_pages.step, "step"),
            page("details/", admin_pages.details, "details"),
            page("timeline/", admin_pages.timeline, "timeline"),
            page("cancel/", admin_actions.cancel, "cancel"),
            page("restart/", admin_actions.restart, "restart"),
            *super().get_urls(),
        ]

    @admin.action(description="Cancel the chosen jobs", permissions=["operate"])
    def cancel_chosen(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse | None:
        return admin_actions.cancel_chosen(request, queryset)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return admin_actions.operates_somewhere(request)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            job_id = UUID(object_id)
        except ValueError:
            raise Http404 from None
        return admin_pages.job(request, job_id)

    @admin.display(description="status")
    def state(self, row: Job) -> SafeString:
        standing: str = getattr(row, "standing")  # noqa: B009  (of the query)
        return badge(standing)

    @admin.display(description="task")
    def task(self, row: Job) -> SafeString:
        return format_html(
            '<a class="st-strong" href="{}">{}</a> <span class="st-id">{}</span>',
            admin_pages.job_url(row.pk),
            row.task_name,
            short(row.pk),
        )

    @admin.display(description="workspace")
    def workspace_name(self, row: Job) -> str:
        return row.workspace.name

    @admin.display(description="started by")
    def source(self, row: Job) -> SafeString | str:
        return admin_pages.started_by(row)

    @admin.display(description="created", ordering="created_at")
    def created(self, row: Job) -> SafeString | str:
        return moment(row.created_at)

    @admin.display(description="duration")
    def duration(self, row: Job) -> SafeString | str:
        return lasting(row.started_at, row.completed_at)


dashboard.register()
