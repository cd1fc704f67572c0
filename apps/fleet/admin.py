"""Workers: who is there, what they offer, how busy they are, and what they are doing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.accounts.scoped import ReadOnlyAdmin
from apps.adminkit import panels
from apps.adminkit.badges import badge
from apps.adminkit.templatetags.adminkit import moment
from apps.fleet.models import Worker

SILENT_AFTER_S = 15.0
MOST_SHOWN = 8


def state_of(worker: Worker) -> str:
    """live, draining, silent (its heartbeat is late) or stopped."""
    if worker.stopped_at:
        return "stopped"
    if timezone.now() - worker.heartbeat_at > timedelta(
        seconds=min(SILENT_AFTER_S, _dead_after_s())
    ):
        return "silent"
    return "draining" if worker.drains_at else "live"


def _dead_after_s() -> float:
    return float(settings.STROEM.recovery.heartbeat_timeout_s)


class PresenceFilter(admin.SimpleListFilter):
    title = "presence"
    parameter_name = "presence"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("gone", "gone"), ("all", "all")]

    def choices(self, changelist: Any) -> Any:
        for value, title in ((None, "here"), *self.lookup_choices):
            query = changelist.get_query_string(
                {self.parameter_name: value} if value else {}, [self.parameter_name]
            )
            yield {"selected": self.value() == value, "query_string": query, "display": title}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Worker]) -> QuerySet[Worker]:
        if self.value() == "all":
            return queryset
        return queryset.filter(stopped_at__isnull=self.value() != "gone")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin[Worker]):
    """Everybody who is let in sees every worker; what a worker runs is shown by workspace."""

    list_display = ("name", "state", "load", "shown_tags", "heartbeat", "version", "started")
    list_filter = (PresenceFilter,)
    search_fields = ("name", "hostname")
    search_help_text = "Name or host"
    when_empty = "No worker is here. Steps wait until one comes: manage.py worker"
    ordering = ("-started_at", "id")
    list_fullwidth = True
    list_before_template = "adminkit/list_tabs.html"

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
            "state": state_of(worker),
            "panels": panels.worker_page.show(request, worker),
            "opts": Worker._meta,
        }
        return render(request, "fleet/worker.html", context)

    @admin.display(description="state")
    def state(self, row: Worker) -> SafeString:
        return badge(state_of(row))

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


def workers_panel(request: HttpRequest) -> dict[str, Any]:
    """On the dashboard: who is here."""
    rows = Worker.objects.filter(stopped_at__isnull=True).order_by("name")
    count = rows.count()
    return {
        "workers": [(row, state_of(row)) for row in rows[:MOST_SHOWN]],
        "count": count,
        "more": count > MOST_SHOWN,
    }


panels.dashboard.add("fleet/workers_panel.html", workers_panel, order=40)
