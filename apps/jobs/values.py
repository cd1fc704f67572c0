"""What workers and the platform tell each other about an attempt. Frozen; nothing here queries the
database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from engine.lifecycle import OwnerKind
from engine.orders import StepOutcome
from engine.spec.model import Action, Step

if TYPE_CHECKING:
    from apps.workspaces.merging import Stored
    from engine.state import Left, Seen

CHECKS = "_check:"  # begins what checks of connections run, which is no task of the files


@dataclass(frozen=True, slots=True)
class TagSetRef:
    id: int
    key: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One attempt that this worker holds until its lease runs out or it reports."""

    step_id: int
    attempt_id: int
    fence: int
    job_id: UUID
    step_name: str  # `base` or `base[index]`
    base: str
    task_name: str
    workspace: str
    revision_id: int
    revision_digest: str
    blueprint_id: int
    number: int  # of this run, from 1; lost attempts do not count
    timeout_s: float | None
    tag_set_id: int
    is_started: bool = False  # noted as started by the claim
    is_more: bool = False  # more was ready for this worker
    owner_kind: OwnerKind = OwnerKind.STEP
    owner_id: int | None = None  # the workflow action; None for a step of the flow
    owner_label: str = ""
    job_ends_in_s: float | None = None  # until the time-out of the job
    scheduled_at: datetime | None = None  # of the clock that started the job
    generation: int = 1  # of the job
    # JSON text, or sealed bytes when it holds secrets
    job_input: str | bytes = field(repr=False, default="{}")

    @property
    def name(self) -> str:
        """The attempt's name on hosts, engines and clusters. Unique over all attempts, even when
        several installations share an engine: they number steps alike, but a job's id ends in
        random digits (it begins with the time)."""
        return f"{self.job_id.hex[-10:]}-{self.step_id}-{self.fence}"

    @property
    def label(self) -> str:
        """The name that people see."""
        return self.owner_label or self.step_name

    @property
    def log_name(self) -> str:
        """The name before its log lines; no step can share an action's."""
        is_step = self.owner_kind is OwnerKind.STEP
        return self.step_name if is_step else f"_{self.owner_kind}:{self.label}"


@dataclass(frozen=True, slots=True)
class Home:
    """The workspace that a step's action belongs to, if it is not the job's own."""

    workspace: str
    revision_id: int
    digest: str
    secrets: Mapping[str, Any] | None = field(repr=False)  # None: not given to other workspaces
    connections: Mapping[str, Any] = field(repr=False)
    masks: tuple[str, ...] = field(repr=False)
    stored_connections: Mapping[str, Stored] = field(default_factory=dict)  # those of the database


@dataclass(frozen=True, slots=True)
class Material:
    """Everything needed to render an order. Values are plain JSON and may be secret: never print
    one."""

    action: Action
    step: Step
    job_input: Mapping[str, Any] = field(repr=False)
    # context name -> {"output": ..., "error"?: ...}
    outputs: Mapping[str, Mapping[str, Any]] = field(repr=False)
    secrets: Mapping[str, Any] = field(repr=False)
    connections: Mapping[str, Any] = field(repr=False)
    each: Mapping[str, Any] | None = field(repr=False)  # {"item", "index", "total"}
    environment: Mapping[str, str]  # STROEM_* and, for Torc jobs, TORC_*
    chdir: str | None = None  # a directory outside the workspace where the step runs (Torc files)
    # of the revision, of inputs and of outputs
    masks: tuple[str, ...] = field(repr=False, default=())
    # of the job; empty: the worker's own for it; None: none
    output_dir: str | None = None
    # a script to run first, and the last exit code
    recovery: tuple[str, int] | None = field(repr=False, default=None)
    # this worker opens a session before it starts its first step of the job
    has_sessions: bool = False
    emits: bool = False  # its OUTPUT: lines are events
    mentions_artifacts: bool = False  # a file of the workspace does
    mentions_helper: bool = False  # or the command `stroem-step`
    declares_state: bool = False  # the task has a `state` key
    # what the task and its workspace remember; None: the definition does not say that it uses it
    state: tuple[Seen, Seen] | None = field(repr=False, default=None)
    stored_connections: Mapping[str, Stored] = field(default_factory=dict)  # those of the database
    home: Home | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class ActionMaterial:
    """Everything needed to run a workflow action."""

    do: tuple[Mapping[str, Any], ...]
    timeout_s: float | None
    output_dir: str  # empty: the worker's own for the job
    environment: Mapping[str, str]  # without the output directory
    masks: tuple[str, ...] = field(repr=False, default=())
    action_id: int = 0
    only_nodes: bool = False  # request nodes once more, and run no commands


@dataclass(frozen=True, slots=True)
class Report:
    """How an attempt ended. `masks`: secret values that must not be stored in clear."""

    claim: Claim
    outcome: StepOutcome
    input: Any = field(repr=False, default=None)  # the rendered input
    masks: tuple[str, ...] = field(repr=False, default=())
    progress: int | None = None  # commands of a workflow action that have begun
    left: Left | None = field(repr=False, default=None)  # effective only with a successful end


@dataclass(frozen=True, slots=True)
class Finished:
    """`accepted` is False if the report came too late and changed nothing. `bells`: how often to
    ring, by tag set key."""

    accepted: bool
    next: Claim | None = None
    bells: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Renewal:
    """If `is_known` is False, the worker's row is gone or it was declared dead: it must stop its
    steps and register anew."""

    is_known: bool
    lost: frozenset[int] = frozenset()  # attempt ids that this worker has lost
    cancelled: frozenset[int] = frozenset()  # attempt ids that must stop
