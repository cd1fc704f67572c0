"""What a worker needs of the platform, as types: ledgers, bells, files. Tests put theirs behind the
same door."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, Protocol
from uuid import UUID

from django.db import InterfaceError, OperationalError

from apps.artifacts.ledger import Left, Taken, Upload
from apps.artifacts.ledger import Limits as FileLimits
from apps.jobs.ledger import ActionMaterial, Claim, Finished, Material, Renewal, Report, TagSetRef
from apps.triggers.ledger import Emitted
from apps.workflow_actions.ledger import OpenAllocation, Submission
from engine.events import Event
from engine.orders import Line
from engine.slurm_script import Launch
from engine.state import Seen, StateFile

OUTAGES = (OperationalError, InterfaceError)
"""The database did not answer: the same call may be made again, as each of them may be repeated."""


class Ledger(Protocol):
    """The functions of `apps.jobs.ledger`, for claims of every kind."""

    def register(
        self,
        *,
        name: str,
        tags: Sequence[str],
        slots: int,
        version: str,
        offers: Mapping[str, Any] | None = None,
        job_id: UUID | None = None,
        workspaces: Sequence[str] = (),
    ) -> UUID: ...

    def covered(self, tags: Collection[str]) -> tuple[TagSetRef, ...]: ...

    def covered_actions(self, tags: Collection[str]) -> tuple[TagSetRef, ...]: ...

    def covered_by_agents(self) -> tuple[TagSetRef, ...]: ...

    def claim(
        self,
        worker_id: UUID,
        tag_set_ids: Sequence[int],
        *,
        job_id: UUID | None = None,
        only_bound: bool = False,
    ) -> Claim | None: ...

    def material(self, claim: Claim) -> Material | ActionMaterial: ...

    def state_of(self, claim: Claim) -> tuple[Seen, Seen]: ...

    def started(self, claim: Claim, *, input: Any, masks: tuple[str, ...]) -> bool: ...

    def append(self, claim: Claim, seq: int, lines: Sequence[Line]) -> bool: ...

    def renew(
        self, worker_id: UUID, live: Mapping[int, int], busy: int, progress: Mapping[int, int] = ...
    ) -> Renewal: ...

    def finish(
        self,
        report: Report,
        *,
        claim_for: Sequence[int] = (),
        worker_id: UUID | None = None,
        lines: Sequence[Line] = (),
        seq: int = 0,
        job_id: UUID | None = None,
        meanwhile: Callable[[], None] = ...,
    ) -> Finished: ...

    def ended(self, names: frozenset[str]) -> frozenset[str]: ...

    def give_back(self, claim: Claim) -> None: ...

    def retire(self, worker_id: UUID) -> None: ...

    def released(self) -> None: ...

    def linger(self, is_on: bool) -> None: ...

    def sweep_connections(self) -> None: ...

    def schema_problem(self) -> str | None: ...


class VisitLedger(Protocol):
    """The functions of `apps.workflow_actions.ledger` about the jobs that a worker is at work
    for."""

    def enter(
        self, worker_id: UUID, job_id: UUID, allocation_id: UUID | None = None
    ) -> int | None: ...

    def is_entered(self, session_id: int) -> bool: ...

    def over(self, worker_id: UUID) -> list[int]: ...

    def leave(self, session_id: int, reason: str) -> None: ...

    def is_left(self, session_id: int) -> bool: ...

    def is_needed(
        self, job_id: UUID, tag_set_ids: Sequence[int], worker_id: UUID | None = None
    ) -> bool: ...

    def leaves_actions(self, job_id: UUID, worker_id: UUID, tag_set_ids: Sequence[int]) -> bool: ...

    def released(self) -> None: ...


class NodeLedger(Protocol):
    """The functions of `apps.workflow_actions.ledger` about nodes asked of Slurm."""

    def submissions(
        self, claim: Claim, part: int, output_dir: str, launch: Launch
    ) -> list[Submission] | None: ...

    def submitted(self, allocation_id: UUID, slurm_job_id: str, cluster: str = "") -> bool: ...

    def refused(self, allocation_id: UUID, error: str) -> None: ...

    def to_follow(self) -> list[OpenAllocation]: ...

    def observed(
        self, allocation_id: UUID, state: str, *, nodes: str = "", reason: str = ""
    ) -> None: ...

    def released(self) -> None: ...


class AllocationLedger(VisitLedger, NodeLedger, Protocol):
    """All functions of `apps.workflow_actions.ledger` that a worker calls."""

    def begun(self, allocation_id: UUID, slurm_job_id: str, difference: str = "") -> None: ...

    def opened(self, job_id: UUID, directory: str, host: str) -> str: ...


class EventLedger(Protocol):
    """The functions of `apps.triggers.ledger`."""

    def emit(self, claim: Claim, number: int, event: Event) -> Emitted: ...

    def released(self) -> None: ...


class StateLedger(Protocol):
    """The functions of `apps.artifacts.state.ledger`."""

    def open_file(self, file: StateFile) -> IO[bytes]: ...

    def store_file(self, path: str, data: BinaryIO, *, is_program: bool) -> StateFile: ...

    def released(self) -> None: ...


class ArtifactLedger(Protocol):
    """The functions of `apps.artifacts.ledger`."""

    def limits(self) -> FileLimits: ...

    def refuse_beyond(self, claim: Claim, sizes: Sequence[int]) -> None: ...

    def begin(self, stream: BinaryIO) -> Upload: ...

    def leave(
        self,
        claim: Claim,
        files: Sequence[Left],
        retain_s: float | None,
        *,
        has_failed: bool = False,
    ) -> bool: ...

    def may_ask(self, claim: Claim, masks: Sequence[str], *, emits: bool) -> None: ...

    def noted(self, claim: Claim) -> dict[str, Any] | None: ...

    def tell_end(self, claim: Claim, exit_code: int) -> None: ...

    def taken(self, claim: Claim, steps: Sequence[str]) -> list[Taken]: ...

    def open_taken(self, file: Taken) -> IO[bytes]: ...

    def released(self) -> None: ...


class Bells(Protocol):
    """The functions of `apps.jobs.bells`."""

    def ring(self, keys: Mapping[str, int]) -> int: ...

    def queue(self, key: str) -> Any: ...

    def heard(self, queue: str, content_type: Any, headers: Any, body: Any) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Doors:
    """All of them, as whoever starts a worker hands them over. `archive` answers a revision's
    tar.gz, `pass_for` what lets a pod fetch it; `app` is Celery's."""

    ledger: Ledger
    allocations: AllocationLedger
    events: EventLedger
    artifacts: ArtifactLedger
    bells: Bells
    archive: Callable[[int], bytes]
    pass_for: Callable[[int, int, str], str]
    app: Any
    states: StateLedger
