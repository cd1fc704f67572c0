"""Worker pages: presence, offers, load and current work."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.accounts.scoped import ReadOnlyAdmin
from apps.adminkit import generic, panels
from apps.adminkit.badges import badge
from apps.adminkit.counted import CountedFilter
from apps.adminkit.generic import SuperusersOnly
from apps.adminkit.templatetags.adminkit import moment
from apps.fleet import reach, vitals
from apps.fleet.models import Worker, WorkerLimit

MOST_SHOWN = 8


class PresenceFilter(CountedFilter):
    title = "presence"
    parameter_name = "presence"
    unset = "here"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("gone", "gone"), ("all", "all")]

    def chosen(
        self, rows: QuerySet[Worker], value: str | None, request: HttpRequest
    ) -> QuerySet[Worker]:
        return rows if value == "all" else rows.filter(stopped_at__isnull=value != "gone")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin[Worker]):
    """Every signed-in user sees every worker; the steps shown are filtered by workspace."""

    list_display = ("name", "state", "load", "shown_tags", "heartbeat", "version", "started")
    list_filter = (PresenceFilter,)
    search_fields = ("name", "hostname")
    search_help_text = "Name or host"
    when_empty = "No worker is running. Steps wait until one starts: manage.py worker"
    ordering = ("-started_at", "id")
    list_fullwidth = True
    list_before_template = "adminkit/list_tabs.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return vitals.with_vitals(super().get_queryset(request))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        worker = self.get_object(request, object_id)
        if worker is None:
            raise Http404("There is no such worker.")
        context = {
            **self.admin_site.each_context(request),
            "title": worker.name,
            "crumbs": [("Workers", reverse("admin:fleet_worker_changelist"))],
            "worker": worker,
            "limits": reach.limits_of(worker.name, reach.read_limits()),
            "panels": panels.worker_page.show(request, worker),
            "opts": Worker._meta,
        }
        return render(request, "fleet/worker.html", context)

    @admin.display(description="state")
    def state(self, row: Any) -> SafeString:
        return badge(row.state)

    @admin.display(description="load")
    def load(self, row: Worker) -> SafeString:
        return format_html(
            '<span class="st-load"><meter max="{0}" value="{1}" aria-label="Slots in use"></meter>'
            " {1} of {0}</span>",
            row.slots,
            row.busy,
        )

    @admin.display(description="tags")
    def shown_tags(self, row: Worker) -> SafeString:
        return format_html_join(" ", '<code class="st-tag">{}</code>', ((tag,) for tag in row.tags))

    @admin.display(description="heartbeat", ordering="heartbeat_at")
    def heartbeat(self, row: Worker) -> SafeString | str:
        return moment(row.heartbeat_at)

    @admin.display(description="started", ordering="started_at")
    def started(self, row: Worker) -> SafeString | str:
        return moment(row.started_at)


@admin.register(WorkerLimit)
class WorkerLimitAdmin(SuperusersOnly, generic.ModelAdmin[WorkerLimit]):
    list_display = ("workers", "allowed")
    search_fields = ("workers",)
    ordering = ("workers",)
    when_empty = "Every worker serves the workspaces that its own configuration names, or all."

    @admin.display(description="serve at most")
    def allowed(self, row: WorkerLimit) -> str:
        return ", ".join(row.workspaces)


def workers_panel(request: HttpRequest) -> dict[str, Any]:
    """Dashboard: workers that have not left."""
    rows = vitals.here().order_by("name")
    count = rows.count()
    return {
        "workers": vitals.with_vitals(rows)[:MOST_SHOWN],
        "count": count,
        "more": count > MOST_SHOWN,
    }


panels.dashboard.add("fleet/workers_panel.html", workers_panel, order=40)
