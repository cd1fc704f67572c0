"""Doors for the rooms above: their handlers for step kinds, ends of jobs and the like, called
inside the transaction.

Each room registers its handlers in `AppConfig.ready()`; `manage.py check` fails if one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from django.core.checks import Error, register

from apps.jobs.models import Job
from apps.jobs.plans import Node, Plan
from apps.jobs.values import ActionMaterial, Claim
from engine.durations import Duration
from engine.lifecycle import AttemptEventKind, OwnerKind, StepEventKind
from engine.spec.model import InputField, Retry, StateRule

if TYPE_CHECKING:
    from engine.state import Left, Seen


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A step that runs on the server, about to start."""

    job: Job
    plan: Plan
    node: Node
    step_id: int
    step_name: str
    context: Mapping[str, Any] = field(repr=False)  # of templates: input, secret, outputs, each
    values: Mapping[str, Any] = field(repr=False)  # the step's rendered input
    # all secret values that must not be stored in clear
    masks: tuple[str, ...] = field(repr=False)
    # those of them from inputs and outputs
    hidden: tuple[str, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Suspension:
    """A step that waits for a person: since just now, or still, to send a reminder."""

    step_id: int
    step_name: str
    fence: int
    message: str  # with secrets masked
    url: str  # of the page for the decision
    status: str = "suspended"  # or "reminder", "escalated"
    number: int = 0  # of the reminder


@dataclass(frozen=True, slots=True)
class Asking:
    """A running step that must ask people before it can go on; its job is locked. `fields`: what
    they may fill in. `message` is Markdown without secrets."""

    job: Job
    plan: Plan
    node: Node
    step_id: int
    step_name: str
    fence: int
    message: str
    fields: Mapping[str, InputField]
    time_out: Duration | None = None
    about: str = "step"  # or "call", "question": of an agent
    summary: str = ""  # what an agent asks, on one line, without secrets


@dataclass(frozen=True, slots=True)
class Ruling:
    """What people decided about an asking. `given`: the form, in clear. `by`: whoever decided;
    empty if nobody did in time."""

    step_id: int
    fence: int
    approved: bool
    by: str = ""
    reason: str = ""
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class UnitRef:
    """A unit outside the flow whose attempt ends, for its owner. `number` counts its runs,
    including this one."""

    id: int
    job_id: UUID
    owner_id: int
    number: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What follows a failed or lost attempt. `retries_losses`: after too many losses, it may still
    be retried as if it had failed."""

    retry: Retry | None
    may_repeat: bool
    retries_losses: bool = True


class Owner(Protocol):
    """The room that owns units of one kind. All but `material` run in the transaction of the move
    itself; `ended` has the job locked."""

    def claimed(self, claim: Claim, worker_id: UUID) -> Claim:
        """A worker has taken a unit; returns the claim with the name that people see."""

    def material(self, claim: Claim) -> ActionMaterial:
        """What the worker needs to carry it out."""

    def rules(self, unit: UnitRef) -> Rules:
        """What follows a failure or a loss."""

    def ended(
        self, unit: UnitRef, event: StepEventKind, told: AttemptEventKind, error: str
    ) -> None:
        """An attempt has ended as `told`; `event` is the effect on the unit."""


class Caller(Protocol):
    """A room whose rows wait for child jobs, beside steps of type `task`. All run inside a
    transaction."""

    def holds(self, child_id: UUID) -> bool:
        """Whether it waits for this child. If so, its row is locked until the transaction ends."""

    def adopt(self, child_id: UUID, following_id: UUID) -> None:
        """Another run has taken the place of a failed child."""

    def ended(self, child: Job) -> None:
        """A child that it may wait for has ended; safe to repeat. Opens its own transaction."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What a step that succeeds leaves for later ones; its job is locked."""

    claim: Claim
    workspace_id: int
    rule: StateRule
    left: Left = field(repr=False)
    masks: tuple[str, ...] = field(repr=False, default=())


class Keeper(Protocol):
    """The room that remembers what steps leave."""

    def seen(self, workspace_id: int, task_name: str) -> tuple[Seen, Seen]:
        """What the task and its workspace remember now."""

    def keep(self, leaving: Leaving) -> str | None:
        """Store it, in the transaction of the step's end; or say in a sentence why not, and store
        nothing."""


@dataclass(frozen=True, slots=True)
class File:
    """What a step has left, for templates and hooks. `url` is absolute."""

    step_name: str
    base: str  # the node of the flow
    name: str
    content_type: str
    size_bytes: int
    created_at: datetime
    url: str


FilesReader = Callable[[UUID, Collection[str] | None], Sequence[File]]
ProgressReader = Callable[[Sequence[int]], dict[int, str]]
RulingHandler = Callable[[Any, Ruling], None]  # with the advance of the locked job
StepHandler = Callable[[Dispatch], None]
EndHandler = Callable[[Job, Plan], None]
MoveHandler = Callable[[Job, Plan, Sequence[tuple[str, StepEventKind]]], None]
FailureHandler = Callable[[Job, Plan, Sequence[str]], None]
SuspensionHandler = Callable[[Job, Plan, Suspension], None]
CancelHandler = Callable[[UUID, str, str], None]
RemovalHandler = Callable[[Sequence[UUID]], None]


@dataclass(frozen=True, slots=True)
class Beside:
    """What runs beside the steps of jobs with workflow actions, for open pages."""

    # each in brief, as JSON; `is_open`: it may still change
    shown: Callable[[Job], list[dict[str, Any]]]
    # (job, id) -> whether the job has it
    has: Callable[[UUID, int], bool]


_owners: dict[OwnerKind, Owner] = {}
_asked: list[Callable[[Asking], int]] = []
_rulings: dict[str, RulingHandler] = {}
_callers: dict[str, Caller] = {}
_steps: dict[str, StepHandler] = {}
_ends: dict[str, EndHandler] = {}
_births: dict[str, EndHandler] = {}
_moves: dict[str, MoveHandler] = {}
_failures: dict[str, FailureHandler] = {}
_suspensions: dict[str, SuspensionHandler] = {}
_cancels: dict[str, CancelHandler] = {}
_removals: dict[str, RemovalHandler] = {}
_beside: dict[str, Beside] = {}
_keepers: list[Callable[[], Keeper]] = []
_progress: dict[str, ProgressReader] = {}
_files: list[FilesReader] = []
UNITS = tuple(kind for kind in OwnerKind if kind is not OwnerKind.STEP)
REQUIRED = {"step": ("task", "approval"), "end": ("hooks", "subscriptions", "triggers")}


def own(kind: OwnerKind, owner: Owner) -> None:
    """Register the room that owns units of this kind."""
    _owners[kind] = owner


def owner_of(kind: OwnerKind) -> Owner:
    return _owners[kind]


def call(name: str, caller: Caller) -> None:
    """Register a room that waits for child jobs."""
    _callers[name] = caller


def caller_of(child_id: UUID) -> Caller | None:
    """The room that waits for this child, if it is not a step of type `task`."""
    return next((caller for caller in _callers.values() if caller.holds(child_id)), None)


def callers() -> list[Caller]:
    return list(_callers.values())


def on_asking(handler: Callable[[Asking], int]) -> None:
    """Register the room that asks people: it suspends the step and returns its new fence."""
    _asked[:] = [handler]


def ask(asking: Asking) -> int:
    (handler,) = _asked
    return handler(asking)


def on_ruling(kind: str, handler: RulingHandler) -> None:
    """Register the room whose steps of `kind` go on after a ruling."""
    _rulings[kind] = handler


def decided(kind: str, advance: Any, ruling: Ruling) -> bool:
    """Tell the room of this kind of step; False if its steps end with a ruling."""
    handler = _rulings.get(kind)
    if handler is None:
        return False
    handler(advance, ruling)
    return True


def on_step(kind: str, handler: StepHandler) -> None:
    """Register the handler that starts steps of `kind`: it suspends, dispatches or fails the step
    with the pen."""
    _steps[kind] = handler


def on_end(name: str, handler: EndHandler) -> None:
    """Register a handler for the end of jobs."""
    _ends[name] = handler


def on_birth(name: str, handler: EndHandler) -> None:
    """Register a handler for the creation or restart of jobs with workflow actions."""
    _births[name] = handler


def on_moves(name: str, handler: MoveHandler) -> None:
    """Register a handler for step moves in jobs with workflow actions."""
    _moves[name] = handler


def on_failures(name: str, handler: FailureHandler) -> None:
    """Register a handler for steps of the flow that have failed, called with their names."""
    _failures[name] = handler


def on_suspension(name: str, handler: SuspensionHandler) -> None:
    """Register a handler for steps that begin to wait for a person."""
    _suspensions[name] = handler


def on_cancel(name: str, handler: CancelHandler) -> None:
    """Register a handler for cancelled jobs, called with the job's id, the actor and the reason."""
    _cancels[name] = handler


def on_removal(name: str, handler: RemovalHandler) -> None:
    """Register a handler that removes rows without a foreign key to their job, when retention
    removes jobs."""
    _removals[name] = handler


def on_page(name: str, beside: Beside) -> None:
    """Register what pages show beside the steps of a job with workflow actions."""
    _beside[name] = beside


def keep(keeper: Callable[[], Keeper]) -> None:
    """Register the room that remembers what steps leave."""
    _keepers[:] = [keeper]


def keeper() -> Keeper:
    (found,) = _keepers
    return found()


def on_progress(kind: str, reader: ProgressReader) -> None:
    """Register what tells how far steps of `kind` have got inside: by id a mark, which differs
    after each move that is no move of the step."""
    _progress[kind] = reader


def on_files(reader: FilesReader) -> None:
    """Register the room that keeps what steps leave: it lists that of a job, or of some nodes."""
    _files[:] = [reader]


def files_of(job_id: UUID, nodes: Collection[str] | None = None) -> list[File]:
    return [file for reader in _files for file in reader(job_id, nodes)]


def has_progress(kind: str) -> bool:
    return kind in _progress


def progress(step_ids: Sequence[int]) -> dict[int, str]:
    """The marks of those of these steps that have one."""
    found: dict[int, str] = {}
    for reader in _progress.values():
        found |= reader(step_ids)
    return found


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


def failed(job: Job, plan: Plan, names: Sequence[str]) -> None:
    for handler in _failures.values():
        handler(job, plan, names)


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
    """Whether this runs beside the steps of the job."""
    return any(beside.has(job_id, id) for beside in _beside.values())


@register()
def check_ports(**kwargs: Any) -> list[Error]:
    missing = [f"step kind '{kind}'" for kind in REQUIRED["step"] if kind not in _steps]
    missing += [f"units of kind '{kind}'" for kind in UNITS if kind not in _owners]
    missing += [] if _keepers else ["what steps leave"]
    missing += [f"job end '{name}'" for name in REQUIRED["end"] if name not in _ends]
    return [
        Error(
            f"no handler for {what}; its app must register one in apps.jobs.ports", id="jobs.E001"
        )
        for what in missing
    ]
