"""Doors for the rooms above: what a step kind or a job's end sets off there, called by name inside
the transaction.

Each room registers its handler in `AppConfig.ready()`; a missing one fails `manage.py check`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

from django.core.checks import Error, register

from apps.jobs.models import Job
from apps.jobs.plans import Node, Plan
from apps.jobs.values import ActionMaterial, Claim
from engine.lifecycle import AttemptEventKind, OwnerKind, StepEventKind
from engine.spec.model import Retry


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A step that the server itself carries out, about to start."""

    job: Job
    plan: Plan
    node: Node
    step_id: int
    step_name: str
    context: Mapping[str, Any] = field(repr=False)  # of templates: input, secret, outputs, each
    values: Mapping[str, Any] = field(repr=False)  # the step's rendered input
    # every secret value that must not be stored in clear
    masks: tuple[str, ...] = field(repr=False)
    # those of them that came with inputs and outputs
    hidden: tuple[str, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Suspension:
    """A step that waits for a person: just now, or still, so that people are reminded."""

    step_id: int
    step_name: str
    fence: int
    message: str  # as shown: secret values are masked
    url: str  # of the page where people decide
    status: str = "suspended"  # or "reminder", "escalated"
    number: int = 0  # of the reminder


@dataclass(frozen=True, slots=True)
class UnitRef:
    """A unit outside the flow whose attempt ends: what its owner must know of it. `number` counts
    its runs, the present one included."""

    id: int
    job_id: UUID
    owner_id: int
    number: int


@dataclass(frozen=True, slots=True)
class Rules:
    """How something goes on after an attempt that failed or was lost. `retries_losses`: one that
    was lost once too often may still be retried like a failed one."""

    retry: Retry | None
    may_repeat: bool
    retries_losses: bool = True


class Owner(Protocol):
    """The room that units of one kind belong to. All but `material` run in the transaction of the
    move itself; `ended` has the job locked."""

    def claimed(self, claim: Claim, worker_id: UUID) -> Claim:
        """A worker has taken a unit; the claim with what people call it."""

    def material(self, claim: Claim) -> ActionMaterial:
        """What doing it needs."""

    def rules(self, unit: UnitRef) -> Rules:
        """How it goes on after a failure or a loss."""

    def ended(
        self, unit: UnitRef, event: StepEventKind, told: AttemptEventKind, error: str
    ) -> None:
        """An attempt has ended as `told`; `event` is what that meant for the unit."""


StepHandler = Callable[[Dispatch], None]
EndHandler = Callable[[Job, Plan], None]
MoveHandler = Callable[[Job, Plan, Sequence[tuple[str, StepEventKind]]], None]
SuspensionHandler = Callable[[Job, Plan, Suspension], None]
CancelHandler = Callable[[UUID, str, str], None]
RemovalHandler = Callable[[Sequence[UUID]], None]


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the steps of jobs with workflow actions, for those who watch a job."""

    # each in brief, as JSON; `is_open`: something may still come of it
    shown: Callable[[Job], list[dict[str, Any]]]
    # (job, id) -> whether the job has such a thing
    has: Callable[[UUID, int], bool]


_owners: dict[OwnerKind, Owner] = {}
_steps: dict[str, StepHandler] = {}
_ends: dict[str, EndHandler] = {}
_births: dict[str, EndHandler] = {}
_moves: dict[str, MoveHandler] = {}
_suspensions: dict[str, SuspensionHandler] = {}
_cancels: dict[str, CancelHandler] = {}
_removals: dict[str, RemovalHandler] = {}
_beside: dict[str, Beside] = {}
UNITS = tuple(kind for kind in OwnerKind if kind is not OwnerKind.STEP)
REQUIRED = {"step": ("task", "approval"), "end": ("hooks",)}


def own(kind: OwnerKind, owner: Owner) -> None:
    """Register the room that units of this kind belong to."""
    _owners[kind] = owner


def owner_of(kind: OwnerKind) -> Owner:
    return _owners[kind]


def on_step(kind: str, handler: StepHandler) -> None:
    """Register who starts steps of `kind`; the handler suspends, dispatches or fails the step with
    the pen."""
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


def on_suspension(name: str, handler: SuspensionHandler) -> None:
    """Register what a step that waits for a person sets off."""
    _suspensions[name] = handler


def on_cancel(name: str, handler: CancelHandler) -> None:
    """Register who closes what was open when a job is cancelled: called with the job's id, the
    actor, the reason."""
    _cancels[name] = handler


def on_removal(name: str, handler: RemovalHandler) -> None:
    """Register who keeps rows by job id without a foreign key: they go when retention removes the
    jobs."""
    _removals[name] = handler


def on_page(name: str, beside: Beside) -> None:
    """Register who tells pages what runs beside the steps of a job with workflow actions."""
    _beside[name] = beside


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


def suspended(job: Job, plan: Plan, suspension: Suspension) -> None:
    for handler in _suspensions.values():
        handler(job, plan, suspension)


def cancelled(job_id: UUID, actor: str, reason: str) -> None:
    for handler in _cancels.values():
        handler(job_id, actor, reason)


def removed(job_ids: Sequence[UUID]) -> None:
    for handler in _removals.values():
        handler(job_ids)


def shown_beside(job: Job) -> list[dict[str, Any]]:
    """What runs beside the steps of this job, in brief."""
    return (
        [brief for beside in _beside.values() for brief in beside.shown(job)]
        if job.has_actions
        else []
    )


def is_beside(job_id: UUID, id: int) -> bool:
    """Whether the job has this thing beside its steps."""
    return any(beside.has(job_id, id) for beside in _beside.values())


def can_carry_out(kind: str) -> bool:
    """Whether somebody here carries out steps of a kind that no worker runs."""
    return kind in _steps


@register()
def check_ports(**kwargs: Any) -> list[Error]:
    missing = [f"step kind '{kind}'" for kind in REQUIRED["step"] if kind not in _steps]
    missing += [f"units of kind '{kind}'" for kind in UNITS if kind not in _owners]
    missing += [f"job end '{name}'" for name in REQUIRED["end"] if name not in _ends]
    return [
        Error(f"nobody handles {what}; its app must register in apps.jobs.ports", id="jobs.E001")
        for what in missing
    ]
