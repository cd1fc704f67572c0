"""Admin pages of rows that belong to tasks: only what the reader may see."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from django.db.models import Model, QuerySet
from django.http import HttpRequest

from apps.accounts.scoped import ReadOnlyAdmin
from apps.workspaces.rights import sight_of
from engine.rights import Right

M = TypeVar("M", bound=Model)


class ScopedAdmin(ReadOnlyAdmin[M]):
    """Only rows of tasks that the reader may see, by ids of workspaces and names of tasks: the
    planner knows how many rows those have, so that the first page of very many comes from an
    index."""

    task_path: ClassVar[str] = "task_name"
    names_workspace: ClassVar[bool] = False  # `workspace` is a name; the rows outlive it

    def get_queryset(self, request: HttpRequest) -> QuerySet[M]:
        sight = sight_of(request.user)
        chosen = sight.named_tasks if self.names_workspace else sight.tasks
        return super().get_queryset(request).filter(chosen(task=self.task_path))

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if not self.has_module_permission(request):
            return False
        if obj is None:
            return True
        row: Any = obj
        workspace = row.workspace if self.names_workspace else row.workspace.name
        return Right.SEE in sight_of(request.user).on(workspace, getattr(row, self.task_path))
