"""The list of libraries, and what a workspace lends and borrows on its page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.errors import TooMany
from apps.accounts.models import signed_in
from apps.accounts.scoped import ReadOnlyAdmin
from apps.adminkit.templatetags.adminkit import moment
from apps.workspaces.exports import receivers
from apps.workspaces.libraries import listing
from apps.workspaces.models import Library, Workspace
from apps.workspaces.revisions import definition_of
from apps.workspaces.rights import sight_of
from engine.errors import StroemError
from engine.rights import Right


@admin.register(Library)
class LibraryAdmin(ReadOnlyAdmin[Library]):
    list_display = ("name", "place", "source", "pin", "used")
    list_display_links = None
    list_fullwidth = True
    show_full_result_count = False
    search_fields = ("name", "workspace__name", "address")
    search_help_text = "Name, workspace or address"
    when_empty = "No library yet that you may see. Workspaces name them under `libraries:`"
    actions = ("refresh",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Library]:
        rows = super().get_queryset(request).filter(sight_of(request.user).whole())
        rows = rows.defer("sealed").select_related("workspace")
        return rows.order_by("workspace__name", "name")

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        found = super().get_changelist_instance(request)
        found.result_list = list(found.result_list)
        for one in listing.with_users(found.result_list):
            one.row.users = one.used_by  # type: ignore[attr-defined]  # only for this page
        return found

    def change_view(self, request: HttpRequest, *_: Any, **__: Any) -> HttpResponse:
        return redirect(reverse("admin:workspaces_library_changelist"))

    @admin.display(description="workspace", ordering="workspace__name")
    def place(self, row: Library) -> SafeString:
        url = reverse("admin:workspaces_workspace_change", args=[row.workspace_id])
        return format_html('<a href="{}">{}</a>', url, row.workspace.name)

    @admin.display
    def source(self, row: Library) -> SafeString:
        at = format_html(" at <code>{}</code>", row.ref) if row.ref else ""
        return format_html("<code>{}</code>{}", row.address, at)

    @admin.display(description="pinned to")
    def pin(self, row: Library) -> SafeString:
        kind = "commit" if row.commit else "hash"
        words = (
            '<div>{} <code title="{}, files {}">{}</code><div class="st-help">{} by {}</div></div>'
        )
        return format_html(
            words,
            kind,
            row.commit or row.tree,
            row.tree,
            row.label,
            moment(row.pinned_at),
            row.pinned_by,
        )

    @admin.display(description="used by")
    def used(self, row: Library) -> str:
        return ", ".join(getattr(row, "users", ())) or "nothing"

    @admin.action(description="Refresh: move the pin to the newest commit")
    def refresh(self, request: HttpRequest, rows: QuerySet[Library]) -> None:
        by_workspace: dict[int, list[Library]] = {}
        for row in rows:
            by_workspace.setdefault(row.workspace_id, []).append(row)
        for found in by_workspace.values():
            self._refresh(request, found[0].workspace, [row.name for row in found])

    def _refresh(self, request: HttpRequest, workspace: Workspace, names: list[str]) -> None:
        if Right.MANAGE not in sight_of(request.user).on(workspace.name):
            text = f"{workspace.name}: refreshing libraries takes the right 'manage' on all of it"
            self.message_user(request, text, messages.ERROR)
            return
        try:
            fresh = listing.refresh(workspace, names, signed_in(request.user).email)
        except (StroemError, TooMany) as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        level = messages.ERROR if fresh.has_failed else messages.SUCCESS
        pins = Library.objects.filter(workspace=fresh, name__in=names).defer("sealed")
        told = ", ".join(f"{row.name} at {row.label}" for row in pins.order_by("name"))
        words = "failed to load; its page says why" if fresh.has_failed else told
        self.message_user(request, f"{fresh.name}: {words}", level)


def panel(request: HttpRequest, row: Workspace) -> dict[str, Any] | None:
    """What the workspace takes from libraries, and what it lends to other workspaces."""
    if not sight_of(request.user).is_whole(row.name):
        return None
    found = listing.listed(Workspace.objects.filter(pk=row.pk).order_by())
    lent = receivers(definition_of(row.current_id)) if row.current_id else {}
    return {"libraries": found, "lent": sorted(lent.items())} if found or lent else None
