"""Filters that say how many rows each choice leads to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

MOST_COUNTED = 1000


class CountedFilter(admin.SimpleListFilter):
    """Counts up to a bound, and only while nothing else narrows the list: with another filter or
    a search, counting each choice could take longer than the page itself.

    `unset` is the title of the list without a choice, where that is a choice of its own.
    """

    unset: str | None = None
    _counts: dict[str | None, str | None] | None = None

    @abstractmethod
    def chosen(self, rows: QuerySet[Any], value: str | None, request: HttpRequest) -> QuerySet[Any]:
        """The rows of a choice; None is the list without one."""

    def __init__(self, request: HttpRequest, *rest: Any) -> None:
        self._request = request
        super().__init__(request, *rest)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return self.chosen(queryset, self.value(), request)

    def choices(self, changelist: Any) -> Iterator[Any]:
        counts = self._counted(changelist)
        for choice, value in zip(
            super().choices(changelist),
            [None, *(value for value, _ in self.lookup_choices)],
            strict=True,
        ):
            if value is None and self.unset:
                choice = {**choice, "display": self.unset}
            yield {**choice, "count": counts.get(value)}

    def _counted(self, changelist: Any) -> dict[str | None, str | None]:
        if self._counts is None:  # a page shows the filter twice
            is_alone = not changelist.query and set(changelist.params) <= {self.parameter_name}
            rows = changelist.root_queryset.order_by().values("pk")
            values = [value for value, _ in self.lookup_choices]
            asked = [None, *values] if self.unset else values
            self._counts = {value: self.count(rows, value) for value in asked if is_alone}
        return self._counts

    def count(self, rows: QuerySet[Any], value: str | None) -> str | None:
        count = self.chosen(rows, value, self._request)[: MOST_COUNTED + 1].count()
        return f"{min(count, MOST_COUNTED):,}" + "+" * (count > MOST_COUNTED)
