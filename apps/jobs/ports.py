"""Doors for the rooms above: what a step kind or a job's end sets off there, called by name inside the transaction.

Each room registers its handler in `AppConfig.ready()`; a missing one fails `manage.py check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.checks import Error, register

if TYPE_CHECKING:
    from apps.jobs.blueprints import Node, Plan
    from apps.jobs.models import Job
    from engine.lifecycle import StepEventKind


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A step that the server itself carries out, about to start."""

    job: Job
    plan: Plan
    node: Node
    step_id: int
    step_name: str
    context: Mapping[str, Any]  # of templates: input, secret, outputs, each
    values: Mapping[str, Any]  # the step's rendered input
    masks: tuple[str, ...]


StepHandler = Callable[[Dispatch], None]
EndHandler = Callable[["Job", "Plan"], None]
MoveHandler = Callable[["Job", "Plan", Sequence[tuple[str, "StepEventKind"]]], None]

_steps: dict[str, StepHandler] = {}
_ends: dict[str, EndHandler] = {}
_births: dict[str, EndHandler] = {}
_moves: dict[str, MoveHandler] = {}
REQUIRED = {"step": ("task",), "end": ("hooks",)}


def on_step(kind: str, handler: StepHandler) -> None:
    """Register who starts steps of `kind`; the handler suspends, dispatches or fails the step with the pen."""
    _steps[kind] = handler


def on_end(name: str, handler: EndHandler) -> None:
    """Register what a job's end sets off."""
    _ends[name] = handler


def on_birth(name: str, handler: EndHandler) -> None:
    """Register what the creation or the restart of a job with workflow actions sets off."""
    _births[name] = handler


def on_moves(name: str, handler: MoveHandler) -> None:
    """Register who counts the moves of steps of jobs with workflow actions."""
    _moves[name] = handler


def step_handler(kind: str) -> StepHandler | None:
    return _steps.get(kind)


def ended(job: Job, plan: Plan) -> None:
    for handler in _ends.values():
        handler(job, plan)


def born(job: Job, plan: Plan) -> None:
    for handler in _births.values():
        handler(job, plan)


def moved(job: Job, plan: Plan, moves: Sequence[tuple[str, StepEventKind]]) -> None:
    for handler in _moves.values():
        handler(job, plan, moves)


@register()
def check_ports(**kwargs: Any) -> list[Error]:
    missing = [f"step kind '{kind}'" for kind in REQUIRED["step"] if kind not in _steps]
    missing += [f"job end '{name}'" for name in REQUIRED["end"] if name not in _ends]
    return [
        Error(f"nobody handles {what}; its app must register in apps.jobs.ports", id="jobs.E001") for what in missing
    ]
