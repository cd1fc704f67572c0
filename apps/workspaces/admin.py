"""Workspaces with their problems, and stored secrets, which can be written but never read."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextInputWidget

from apps.accounts.errors import TooMany
from apps.accounts.models import signed_in
from apps.adminkit import panels
from apps.adminkit.badges import badge
from apps.adminkit.generic import ModelAdmin, ModelForm
from apps.adminkit.templatetags.adminkit import moment
from apps.workspaces import library_pages, secrets
from apps.workspaces.models import Revision, Secret, Workspace
from apps.workspaces.refreshing import rounds
from apps.workspaces.revisions import definition_of
from apps.workspaces.rights import NOT_TOLD, sight_of, workspaces_of
from engine.errors import Conflict, InputError, PlatformError
from engine.rights import Right, matches
from engine.spec.model import Workspace as Definition

MOST_NAMES = 10  # of the workspaces that a pattern matches


@admin.register(Workspace)
class WorkspaceAdmin(ModelAdmin[Workspace]):
    """The source of a workspace is set by commands and settings, never here: paths are for
    operators."""

    list_display = ("name", "badge", "source", "location", "revision", "checked")
    list_display_links = ("name",)
    list_fullwidth = True
    show_full_result_count = False
    search_fields = ("name",)
    when_empty = "No workspace yet that you may see. Import one: manage.py import_workspace"
    actions = ("refresh",)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.refresh_one))
        matching = self.admin_site.admin_view(self.matching)
        return [
            path("<int:pk>/refresh/", view, name="workspaces_workspace_refresh"),
            path("matching/", matching, name="workspaces_workspace_matching"),
            *super().get_urls(),
        ]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self._found(request, object_id)
        if request.method != "GET":  # nothing is edited here
            raise PermissionDenied
        definition = definition_of(row.current_id) if row.current_id else Definition()
        sight = sight_of(request.user)
        is_whole, own = sight.is_whole(row.name), sight.on(row.name)
        context = {
            **self.admin_site.each_context(request),
            "title": row.name,
            "crumbs": [("Workspaces", reverse("admin:workspaces_workspace_changelist"))],
            "row": row,
            "status": self._status(row),
            "state": "in quarantine" if row.quarantined_at else self.state(row),
            "tasks": [
                (name, task)
                for name, task in sorted(definition.tasks.items())
                if Right.SEE in sight.on(row.name, name)
            ],
            "triggers": [
                (name, one)
                for name, one in sorted(definition.triggers.items())
                if Right.SEE in sight.on(row.name, one.starts)
            ],
            "problems": row.problems if is_whole else (),
            "not_told": NOT_TOLD if row.has_failed and not is_whole else "",
            "revisions": Revision.objects.filter(workspace=row)
            .only("digest", "label", "created_at")
            .order_by("-pk")[:10],
            "may_refresh": Right.MANAGE in own,
            "may_remove": request.user.is_superuser,
            "alerts": panels.workspace_alerts.show(request, row),
            "panels": panels.workspace_page.show(request, row),
            "opts": Workspace._meta,
        }
        return render(request, "workspaces/workspace.html", context)

    def _found(self, request: HttpRequest, object_id: str) -> Workspace:
        row = self.get_object(request, object_id)
        if row is None or not self.has_view_permission(request, row):
            raise PermissionDenied  # same answer as for a missing one
        return row

    def refresh_one(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self._found(request, str(pk))
        if Right.MANAGE not in sight_of(request.user).on(row.name):
            raise PermissionDenied
        self._refresh(request, row)
        return redirect(reverse("admin:workspaces_workspace_change", args=[row.pk]))

    def matching(self, request: HttpRequest) -> HttpResponse:
        """Which workspaces a grant with this pattern is for: a sentence for the page of grants."""
        if not request.user.is_superuser:
            raise PermissionDenied
        pattern = request.GET.get("pattern", "")[:200]
        names = Workspace.objects.order_by("name").values_list("name", flat=True)
        found = [name for name in names if matches(pattern, name)]
        more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
        listed = f"Matches {', '.join(found[:MOST_NAMES])}{more}."
        return JsonResponse({"sentence": listed if found else "Matches no workspace so far."})

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workspace]:
        rows = Workspace.objects.filter(sight_of(request.user).workspaces())
        return (
            rows.failing_first()
            .select_related("current")
            .defer("current__definition", "current__sealed_secrets")
        )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_staff)

    def has_view_permission(self, request: HttpRequest, obj: Workspace | None = None) -> bool:
        return bool(request.user.is_staff) and (
            obj is None or sight_of(request.user).sees(obj.name)
        )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _status(self, row: Workspace) -> str:
        if row.quarantined_at is not None:
            return "broken"
        return "broken" if row.has_failed else "warnings" if row.problems else "loaded"

    @admin.display(description="state")
    def badge(self, row: Workspace) -> SafeString:
        words = {"broken": "failed to load", "warnings": "loaded with warnings"}
        word = words.get(self._status(row), "loaded")
        return badge(self._status(row), "in quarantine" if row.quarantined_at else word)

    @admin.display(description="read", ordering="checked_at")
    def checked(self, row: Workspace) -> SafeString | str:
        return moment(row.checked_at)

    def state(self, row: Workspace) -> str:
        if row.quarantine:
            return row.quarantine
        if row.has_failed:
            return (
                "failed to load"
                if row.current is None
                else "failed to load; the last good revision stays in force"
            )
        return "loaded with warnings" if row.problems else "loaded"

    @admin.display
    def revision(self, row: Workspace) -> str:
        return (row.current.label or row.current.digest)[:12] if row.current else "none"

    @admin.action(description="Read the source again")
    def refresh(self, request: HttpRequest, rows: QuerySet[Workspace]) -> None:
        for row in rows:
            if Right.MANAGE not in sight_of(request.user).on(row.name):
                self.message_user(
                    request,
                    f"{row.name}: that takes the right 'manage' on the whole of it",
                    messages.ERROR,
                )
                continue
            self._refresh(request, row)

    def _refresh(self, request: HttpRequest, row: Workspace) -> None:
        try:
            fresh = rounds.refresh(row)
        except (Conflict, TooMany, PlatformError) as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        level = messages.ERROR if fresh.has_failed else messages.SUCCESS
        self.message_user(request, f"{fresh.name}: {self.state(fresh)}", level)


def failing_panel(request: HttpRequest) -> dict[str, Any] | None:
    """Workspaces whose newest state failed to load, for the dashboard."""
    sight = sight_of(request.user)
    rows = Workspace.objects.filter(sight.workspaces()).failing().select_related("current")
    found = list(rows.defer("current__definition", "current__sealed_secrets"))
    told = [(row, row.problems if sight.is_whole(row.name) else ()) for row in found]
    return {"workspaces": told} if told else None


panels.workspace_page.add("workspaces/libraries_panel.html", library_pages.panel, order=5)
panels.dashboard.add("workspaces/failing_panel.html", failing_panel, order=5, is_wide=True)


class SecretForm(ModelForm[Secret]):
    """Asks for a value and never shows the stored one."""

    value = forms.CharField(
        strip=False,
        widget=UnfoldAdminPasswordWidget(
            attrs={"autocomplete": "new-password"}, render_value=False
        ),
        help_text="At least 4 characters. It is stored encrypted and cannot be shown again.",
    )

    class Meta:
        model = Secret
        fields = ("workspace", "name")
        widgets = {"name": UnfoldAdminTextInputWidget()}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        name = cleaned.get("name") or self.instance.name
        if name and cleaned.get("value"):
            try:
                secrets.check_secret(name, cleaned["value"])
            except InputError as error:
                raise ValidationError(dict(error.problems)) from None
        return cleaned


@admin.register(Secret)
class SecretAdmin(ModelAdmin[Secret]):
    form = SecretForm
    is_noted_by_service = True
    list_display = ("name", "workspace", "stored", "updated_by")
    when_empty = "No secret is stored yet."
    list_select_related = ("workspace",)
    search_fields = ("name", "workspace__name")
    fields = ("workspace", "name", "value")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Secret]:
        rows = Secret.objects.filter(workspace__in=workspaces_of(request.user, Right.SECRETS))
        return rows.defer("sealed").select_related("workspace").order_by("workspace__name", "name")

    def get_readonly_fields(
        self, request: HttpRequest, obj: Secret | None = None
    ) -> tuple[str, ...]:
        return ("workspace", "name") if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        options["queryset"] = workspaces_of(request.user, Right.SECRETS).order_by("name")
        return super().formfield_for_foreignkey(db_field, request, **options)

    def _may(self, request: HttpRequest, obj: Secret | None = None) -> bool:
        if not request.user.is_staff:
            return False
        if obj is None:
            return workspaces_of(request.user, Right.SECRETS).exists()
        return Right.SECRETS in sight_of(request.user).on(obj.workspace.name)

    has_module_permission = has_add_permission = _may
    has_view_permission = has_change_permission = has_delete_permission = _may

    def save_model(self, request: HttpRequest, obj: Secret, form: SecretForm, change: bool) -> None:
        value = form.cleaned_data["value"]
        stored = secrets.store_secret(
            obj.workspace, obj.name, value, by=signed_in(request.user).email
        )
        obj.pk = stored.pk

    def delete_model(self, request: HttpRequest, obj: Secret) -> None:
        secrets.remove_secret(obj.workspace, obj.name)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Secret]) -> None:
        for row in queryset:
            secrets.remove_secret(row.workspace, row.name)

    @admin.display(description="stored", ordering="updated_at")
    def stored(self, row: Secret) -> SafeString | str:
        return moment(row.updated_at)

    def construct_change_message(  # type: ignore[override]  # Django takes a text, too
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> str:
        return "Stored a value"
