"""The page of the audit log, for superusers: filters, search, export."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.adminkit.badges import badge
from apps.adminkit.generic import ModelAdmin, SuperusersOnly
from apps.adminkit.paging import BoundedPaginator
from apps.adminkit.templatetags.adminkit import moment
from apps.audit import reading
from apps.audit.kinds import KINDS, is_known
from apps.audit.models import ORDER, Entry
from apps.audit.streaming import streamed

SHOWN = 6  # changed fields of a line


class KindFilter(admin.SimpleListFilter):
    title = "what"
    parameter_name = "what"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        found = list(KINDS.items())
        asked = self.used_parameters.get(self.parameter_name)
        if asked is None or asked in KINDS or not is_known(asked):
            return found
        return [*found, (asked, asked)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(**{"act" if "." in value else "kind": value})


class WhenFilter(admin.SimpleListFilter):
    title = "when"
    parameter_name = "when"
    HOURS: ClassVar[dict[str, int]] = {"hour": 1, "day": 24, "week": 168, "month": 720}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("hour", "last hour"),
            ("day", "last 24 hours"),
            ("week", "last 7 days"),
            ("month", "last 30 days"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        hours = self.HOURS.get(self.value() or "")
        if hours is None:
            return queryset
        return queryset.filter(at__gte=timezone.now() - timedelta(hours=hours))


class _Named(admin.SimpleListFilter):
    """One value, that a line leads to."""

    column: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        asked = self.used_parameters.get(self.parameter_name or "")
        return [(asked, asked)] if asked else []

    def has_output(self) -> bool:
        return bool(self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Entry]) -> QuerySet[Entry]:
        value = self.value()
        return queryset.filter(**{self.column: value}) if value else queryset


def _named(title: str, name: str, column: str) -> type[_Named]:
    values = {"title": title, "parameter_name": name, "column": column}
    return type(f"{title.title()}Filter", (_Named,), values)


NAMED = [
    _named("who", "who", "actor"),
    _named("object", "object", "object"),
    _named("workspace", "workspace", "workspace"),
    _named("address", "address", "address"),
    _named("API key", "key", "key"),
]


@admin.register(Entry)
class EntryAdmin(SuperusersOnly, ModelAdmin[Entry]):
    list_title = "Audit log"
    list_display = ("when", "who", "what", "about", "changed", "origin")
    list_display_links = None
    list_filter = (KindFilter, WhenFilter, *NAMED)
    search_fields = ("actor",)  # see get_search_results
    search_help_text = "Person, object, workspace, address or key; parts of them in newer entries"
    when_empty = "Nothing has been noted yet."
    ordering = ORDER
    sortable_by = ()
    list_per_page = 50
    paginator = BoundedPaginator
    show_full_result_count = False
    list_fullwidth = True
    list_before_template = "audit/export.html"
    actions = None

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/", view, name="audit_entry_export"), *super().get_urls()]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Entry], search_term: str
    ) -> tuple[QuerySet[Entry], bool]:
        return reading.searched(queryset, search_term), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        query = request.GET.copy()
        query.pop("p", None)
        address = f"{reverse('admin:audit_entry_export')}?{query.urlencode()}"
        return super().changelist_view(request, {**(extra_context or {}), "export": address})

    def export(self, request: HttpRequest) -> StreamingHttpResponse:
        """The list as filtered, without its pages, as JSON lines."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request)
        return streamed(rows.order_by(*ORDER))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """An entry has no page of its own."""
        if request.method != "GET" or not self.has_view_permission(request):
            raise Http404("There is no such page.")
        return redirect(reverse("admin:audit_entry_changelist"))

    @admin.display(description="when")
    def when(self, row: Entry) -> SafeString | str:
        return moment(row.at)

    @admin.display(description="who")
    def who(self, row: Entry) -> SafeString | str:
        return _link("who", row.actor) if row.actor else "–"

    @admin.display(description="what")
    def what(self, row: Entry) -> SafeString:
        kind, _, verb = (part.replace("-", " ") for part in row.act.partition("."))
        return badge(
            _look(verb), f"{KINDS_ONE.get(kind, kind.replace('-', ' '))} {verb.replace('-', ' ')}"
        )

    @admin.display(description="object")
    def about(self, row: Entry) -> SafeString:
        where = (
            format_html(' <span class="st-help">{}</span>', row.workspace)
            if (row.workspace and row.workspace != row.object)
            else ""
        )
        return format_html("{}{}", _link("object", row.object) if row.object else "–", where)

    @admin.display(description="changed")
    def changed(self, row: Entry) -> SafeString:
        told = [_told(name, change) for name, change in list(row.changes.items())[:SHOWN]]
        if len(row.changes) > SHOWN:
            told.append(("", f"and {len(row.changes) - SHOWN} more"))
        if row.detail:
            told.append(("", row.detail))
        lines = format_html_join("", "<div><b>{}</b> {}</div>", told)
        return format_html('<div class="st-changed">{}</div>', lines)

    @admin.display(description="from")
    def origin(self, row: Entry) -> SafeString:
        key = format_html(" with key {}…", _link("key", row.key)) if row.key else ""
        address = format_html(" {}", _link("address", row.address)) if row.address else ""
        return format_html("<span>{}{}{}</span>", row.via, address, key)

    def _never(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    has_add_permission = has_change_permission = has_delete_permission = _never


KINDS_ONE = {"session": "sign-in", "api key": "API key"}
LOOKS = {
    "refused": "failed", "throttled": "failed", "delete": "cancelled", "remove": "cancelled",
    "revoke": "cancelled", "cancel": "cancelled", "add": "completed", "begin": "completed",
}  # fmt: skip


def _look(verb: str) -> str:
    return LOOKS.get(verb, "ready")


def _link(name: str, value: str) -> SafeString:
    return format_html('<a href="?{}">{}</a>', urlencode({name: value}), value)


def _told(name: str, change: dict[str, Any]) -> tuple[str, str]:
    if change.get("changed"):
        return name, "changed"
    before, after = (_shown(change.get(side)) for side in ("before", "after"))
    return name, f"{before} → {after}" if before else after


def _shown(value: Any) -> str:
    if value in (None, "", []):
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
