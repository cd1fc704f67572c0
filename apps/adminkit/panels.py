"""Places on a page that several rooms fill: the dashboard, the page of one job, the side bar's
numbers.

A room registers what it adds in `AppConfig.ready()`, so that the page need not know the rooms above
it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of a page. `context` answers with the template's values, or None when there is
    nothing to show."""

    order: int
    template: str
    context: Callable[..., dict[str, Any] | None]
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel with its values, for the template of the page."""

    template: str
    values: dict[str, Any]
    is_wide: bool


class Place:
    """The panels of one page."""

    def __init__(self) -> None:
        self._panels: dict[str, Panel] = {}

    def add(
        self,
        template: str,
        context: Callable[..., dict[str, Any] | None],
        *,
        order: int,
        is_wide: bool = False,
    ) -> None:
        self._panels[template] = Panel(order, template, context, is_wide)

    def show(self, *given: Any) -> list[Shown]:
        ordered = sorted(self._panels.values(), key=lambda panel: panel.order)
        found = ((panel, panel.context(*given)) for panel in ordered)
        return [
            Shown(panel.template, values, panel.is_wide)
            for panel, values in found
            if values is not None
        ]


dashboard = Place()  # context(request)
job_page = Place()  # context(request, job)
step_page = Place()  # context(request, job, step)
worker_page = Place()  # context(request, worker)


def fill_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The theme's hook for the index page."""
    return {**context, "panels": dashboard.show(request), "title": "Dashboard"}
