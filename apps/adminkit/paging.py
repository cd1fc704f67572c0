"""Bounded pages of long lists, so that a list costs the same at any size."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.utils.functional import cached_property

from apps.adminkit.generic import Paginator

M = TypeVar("M", bound=Model)
T = TypeVar("T")
MOST = 10_000


class Beginning(list[T]):
    """The first rows of a list, which say whether there are more: `adminkit/more.html`."""

    def __init__(self, rows: Any, most: int) -> None:
        found = list(rows[: most + 1])
        super().__init__(found[:most])
        self.has_more = len(found) > most


class BoundedPaginator(Paginator[M]):
    """Counts at most 10,000 rows. Search and filters lead to older ones."""

    @cached_property
    def count(self) -> int:
        assert isinstance(self.object_list, QuerySet)
        return self.object_list[:MOST].count()

    @property
    def is_cut(self) -> bool:
        return self.count >= MOST
