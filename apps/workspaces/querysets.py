"""Which workspaces somebody sees."""

from __future__ import annotations

from typing import Self

from django.db import models

from apps.accounts.grants import Person, visible
from apps.accounts.models import Role


class WorkspaceQuerySet(models.QuerySet):  # type: ignore[type-arg]  (a class at run time takes no argument)
    def visible_to(self, user: Person, needed: Role = Role.VIEWER) -> Self:
        """Only workspaces on which `user` holds at least the role `needed`."""
        return self.filter(visible(user, "name", needed))
