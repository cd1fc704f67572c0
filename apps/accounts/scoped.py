"""Read-only admin pages, and those that show only rows of granted workspaces."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import BooleanField, F, Func, Model, QuerySet
from django.http import HttpRequest

from apps.accounts.grants import role_on, visible
from apps.adminkit.generic import ModelAdmin

M = TypeVar("M", bound=Model)


class ReadOnlyAdmin(ModelAdmin[M]):
    """Open to every signed-in user; nothing can be added, changed or deleted."""

    show_full_result_count = False
    actions: tuple[str, ...] | None = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_module_permission(request)

    def _never(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    has_add_permission = has_change_permission = has_delete_permission = _never


class _IsAmong(Func):
    """`row = ANY (ARRAY (SELECT ...))`"""

    template, arg_joiner = "%(expressions)s)", " = ANY ("
    output_field = BooleanField()


class ScopedAdmin(ReadOnlyAdmin[M]):
    """Only rows of granted workspaces. `workspace_path` is the ORM path from a row to the name of
    its workspace."""

    workspace_path: ClassVar[str] = "workspace__name"

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        rows = super().get_queryset(request)
        seen = visible(request.user, self.workspace_path)
        relation, _, name = self.workspace_path.rpartition("__")
        if not seen or not relation:
            return rows.filter(seen)
        # The granted workspaces are found first. The planner cannot know how many rows a pattern of
        # names leads to, expects few, and would sort all of them for the first page.
        to = self.model._meta.get_field(relation).related_model
        assert to is not None and not isinstance(to, str)
        granted = to._default_manager.filter(visible(request.user, name)).values("pk")
        return rows.filter(_IsAmong(F(relation), ArraySubquery(granted)))

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if not self.has_module_permission(request):
            return False
        return obj is None or role_on(request.user, self._workspace_name(obj)) is not None

    def _workspace_name(self, row: Model) -> str:
        value: Any = row
        for part in self.workspace_path.split("__"):
            value = getattr(value, part)
        return str(value)
