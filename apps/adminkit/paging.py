"""Bounded pages of long lists, so that a list costs the same at any size."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, QuerySet
from django.utils.functional import cached_property

from apps.adminkit.generic import Paginator

M = TypeVar("M", bound=Model)
MOST = 10_000


class BoundedPaginator(Paginator[M]):
    """Counts at most 10,000 rows. Search and filters lead to older ones."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return self.object_list[:MOST].count()
