"""Places on pages that several rooms fill: dashboard, job page, side bar counts.

A room registers its panels in `AppConfig.ready()`, so that a page need not know the rooms above.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of a page. `context` returns the values of the template, or None to show nothing."""

    order: int
    template: str
    context: Callable[..., dict[str, Any] | None]
    is_wide: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A panel with its values, ready to render."""

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
task_page = Place()  # context(request, workspace, name of the task)
worker_page = Place()  # context(request, worker)
workspace_page = Place()  # context(request, workspace)
workspace_alerts = Place()  # the same, above everything else


def fill_dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The theme's hook for the index page."""
    return {**context, "panels": dashboard.show(request), "title": "Dashboard"}
