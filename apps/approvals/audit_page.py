"""The record as a read-only list: every attempt, by whom, with its outcome."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.adminkit.badges import badge
from apps.adminkit.paging import BoundedPaginator
from apps.adminkit.templatetags.adminkit import moment
from apps.approvals.models import Outcome, Record
from apps.workspaces.scoped import ScopedAdmin


class OutcomeFilter(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(outcome.value, outcome.value) for outcome in Outcome]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Record]) -> QuerySet[Record]:
        return queryset.filter(outcome=self.value()) if self.value() in list(Outcome) else queryset


class RecordAdmin(ScopedAdmin[Record]):
    names_workspace: ClassVar[bool] = True
    list_display = ("when", "who", "what", "result", "about", "workspace", "way", "note")
    list_display_links = ("when",)
    list_filter = (OutcomeFilter,)
    search_fields = ("actor", "task_name", "step_name")
    search_help_text = "Person, task or step"
    ordering = ("-id",)
    list_per_page = 50
    paginator = BoundedPaginator
    list_fullwidth = True
    list_before_template = "adminkit/list_tabs.html"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """A row has no page of its own and leads to its request."""
        row = (
            self.get_queryset(request).filter(pk=object_id).first()
            if object_id.isdecimal()
            else None
        )
        if row is None or request.method != "GET":
            raise Http404("There is no such row, or you may not see it.")
        return redirect(_requests_of(row))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Record]:
        return super().get_queryset(request).order_by("-id")

    @admin.display(description="when")
    def when(self, row: Record) -> SafeString | str:
        return moment(row.at)

    @admin.display(description="who")
    def who(self, row: Record) -> str:
        return row.actor or "server"

    @admin.display(description="tried to")
    def what(self, row: Record) -> str:
        return row.what.replace("_", " ")

    @admin.display(description="outcome")
    def result(self, row: Record) -> SafeString:
        return badge(row.outcome)

    @admin.display(description="request")
    def about(self, row: Record) -> SafeString:
        return format_html(
            '<a class="st-strong" href="{}">{}</a> <span class="st-id">{}</span>',
            _requests_of(row),
            row.task_name,
            row.step_name,
        )

    @admin.display(description="channel")
    def way(self, row: Record) -> str:
        return f"{row.via} {row.address}".strip()

    @admin.display(description="detail")
    def note(self, row: Record) -> SafeString:
        return format_html('<div class="st-clip">{}</div>', row.detail)


def _requests_of(row: Record) -> str:
    """The list of requests of the same job: the request itself may be gone."""
    return f"{reverse('admin:approvals_approvalrequest_changelist')}?job={row.job_id}"
