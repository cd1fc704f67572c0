"""The platform as the commands see it: frozen values and one protocol.

`console.database` implements it on the database. Nothing here needs a model, a queryset or a
transaction, so another implementation could speak HTTP.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from engine.news import Relative, StepNews
from engine.spec.model import Workspace as Definition

SERVER = "_server"  # instead of a step's name: the server's lines about the job
BEGINNING = "0"  # a cursor at the start of a log


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in a list; `asked_at` is the platform's clock."""

    job_id: UUID
    status: str
    workspace: str
    task_name: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class AttemptLine:
    """One claim of a step; `lost` ones do not count towards `retry`."""

    status: str
    worker: str
    exit_code: int | None
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class StepLine:
    """`attempts` are listed where there was more than one, or another is due at `retry_at`."""

    step_name: str
    status: str
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    retry_at: datetime | None = None
    attempts: Sequence[AttemptLine] = ()


@dataclass(frozen=True, slots=True)
class RequestLine:
    """An open request of a step to people. `asked`: who may decide, in words; `message`: what it
    is about, with secrets masked; `about`: step, or of an agent: call or question."""

    step_name: str
    asked: str
    created_at: datetime
    deadline_at: datetime | None
    about: str
    message: str
    approvals: int
    needed: int
    asked_at: datetime  # the platform's clock, now


@dataclass(frozen=True, slots=True)
class JobView:
    """One job, with the API's names, also in its workflow actions, their runs and allocations."""

    job_id: UUID
    workspace: str
    task_name: str
    status: str
    error: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    steps: Sequence[StepLine]
    workflow_actions: Sequence[Mapping[str, Any]]
    requests: Sequence[RequestLine] = ()


@dataclass(frozen=True, slots=True)
class TriggerLine:
    """A trigger in a list; `state` is live, failing, resting, paused, off or gone."""

    workspace: str
    name: str
    state: str
    type: str
    fires: str
    task: str
    next: Sequence[datetime]
    last_fired_at: datetime | None
    failures: int
    last_error: str


def dealt(letters: Sequence[tuple[str, str]]) -> str:
    """What became of dead letters, by status and reason, in one sentence."""
    if not letters:
        return "There is no dead letter that this could be done with."
    still = [reason for status, reason in letters if status == "dead"]
    said = f"{len(letters) - len(still)} of {len(letters)} dead letters were dealt with."
    return f"{said} {len(still)} are dead letters again: {still[0]}" if still else said


@dataclass(frozen=True, slots=True)
class WorkspaceLine:
    """A workspace in a list; `state` is loaded, warnings, failed or quarantine."""

    name: str
    state: str
    source: str
    location: str
    revision: str | None
    checked_at: datetime | None
    tasks: int
    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A task in a list; `inputs` by name: the type, and whether a caller must give it."""

    workspace: str
    task_name: str
    description: str
    inputs: Mapping[str, tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class JobResult:
    """The state of a job, or of its last retry."""

    job_id: UUID
    status: str
    error: str
    output: Any
    hidden: tuple[str, ...] = ()  # why error or output is left out


@dataclass(frozen=True, slots=True)
class StepResult:
    status: str
    output: Any
    error: str | None


@dataclass(frozen=True, slots=True)
class ActionNews:
    """A workflow action that has ended."""

    id: int
    job_id: UUID
    label: str
    status: str
    progress: str
    reason: str


class LogLine(NamedTuple):
    job_id: UUID
    step: str
    text: str


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Some lines, where to continue, and whether there are more already."""

    lines: Sequence[LogLine]
    next: str
    has_more: bool


@dataclass(frozen=True, slots=True)
class LogMatches:
    """Lines that hold a text, where to search on, and whether there is more to search."""

    lines: Sequence[LogLine]
    next: str
    has_more: bool


@dataclass(frozen=True, slots=True)
class News:
    """What there is to tell of a job and of the jobs that it set off. `relatives`: each after the
    job that set it off. `has_ended`: nothing of it is open, and `log` leads to the last lines."""

    relatives: Sequence[Relative]
    steps: Sequence[StepNews]
    actions: Sequence[ActionNews]
    log: LogPiece
    has_ended: bool
    hidden: str = ""  # why lines and errors of some jobs are left out


@dataclass(frozen=True, slots=True)
class StateView:
    """What a task or a workspace remembers: version 0 is nothing. `files`: paths and sizes."""

    version: int
    values: Mapping[str, Any]
    files: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class StateVersionLine:
    """One version: which keys it wrote, and who made it."""

    version: int
    created_at: datetime
    source: str
    job_id: UUID | None
    step_name: str | None
    by: str | None
    written: Sequence[str]
    files: int


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """A worker that has not left, or has lately; `seen_s`: seconds since its last sign of life."""

    worker_id: UUID
    name: str
    state: str
    tags: Sequence[str]
    busy: int
    slots: int
    version: str
    seen_s: float


@dataclass(frozen=True, slots=True)
class LibraryLine:
    """A library of a workspace; `pin` is its commit, or the hash of its files."""

    workspace: str
    name: str
    address: str
    ref: str
    pin: str
    pinned_at: datetime
    pinned_by: str
    used_by: Sequence[str]


@dataclass(frozen=True, slots=True)
class SecretLine:
    """A stored secret, without its value."""

    name: str
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, slots=True)
class ConnectionLine:
    """A connection without its values; `source` is files or database, `check` the status of its
    last check."""

    name: str
    type: str | None
    source: str
    overrides: bool
    version: int | None
    uses: int
    check: str | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to decide: approve, with the form's fields, or reject, with a reason."""

    approved: bool
    given: Mapping[str, Any] | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """The step's state after a decision: approved, rejected, or suspended if approvals are missing:
    then `approvals` of those `needed` are given."""

    status: str
    approvals: int
    needed: int


@dataclass(frozen=True, slots=True)
class Imported:
    """A workspace after an import. `revision` is the one in force, None without; the previous one
    if the import `has_failed`."""

    name: str
    problems: Sequence[str]
    has_failed: bool
    revision: str | None
    tasks: Sequence[str]


@dataclass(frozen=True, slots=True)
class ArtifactLine:
    """A file that a step has left. `digest`: SHA-256."""

    name: str
    step_name: str
    content_type: str
    size_bytes: int
    created_at: datetime
    digest: str
    is_program: bool


class Platform(Protocol):
    """Raises NotFound, InputError, and Conflict for what the present state does not allow. `email`:
    the acting user; None: the operator of this installation, or who has signed in.
    `slowest_look_s`: the pause between looks for news while there are none."""

    slowest_look_s: float

    def job_ids(self, first: UUID, last: UUID, most: int) -> list[UUID]: ...
    def jobs(
        self, *, workspace: str | None, task: str | None, status: str | None, limit: int
    ) -> list[JobLine]: ...
    def job(self, job_id: UUID) -> JobView: ...
    def workspaces(self) -> list[WorkspaceLine]:
        """Those that failed to load first, then by name."""

    def tasks(self, workspace: str | None) -> list[TaskLine]: ...
    def triggers(self, workspace: str | None) -> list[TriggerLine]: ...
    def act_on_trigger(self, workspace: str, name: str, what: str, email: str | None) -> str:
        """Pause, resume or fire it; returns what was done, and the id of a started job on the last
        line."""

    def artifacts(self, job_id: UUID) -> list[ArtifactLine]: ...
    def artifact(self, job_id: UUID, name: str, step: str) -> Iterator[bytes]:
        """Its bytes, piece by piece."""

    def state(self, workspace: str, task: str, version: int | None) -> StateView:
        """Of the task, or of the workspace if `task` is empty."""

    def state_history(self, workspace: str, task: str) -> list[StateVersionLine]:
        """Newest first."""

    def restore_state(self, workspace: str, task: str, version: int, email: str | None) -> int:
        """Returns the number of the new version."""

    def log(
        self, job_ids: Collection[UUID], after: str, *, step: str = "", action: str = ""
    ) -> LogPiece:
        """`step` or `action` limits the log to this name, in the one job of `job_ids`."""

    def search_log(self, job_id: UUID, text: str, after: str, step: str = "") -> LogMatches:
        """The next lines that hold the text, in either case."""

    def news(self, root: UUID, after: str, known_actions: Collection[int]) -> News:
        """`after`: where the log was left. `known_actions`: not to be told again."""

    def result(self, job_id: UUID) -> JobResult: ...
    def step_results(self, job_id: UUID) -> dict[str, StepResult]: ...

    def start(
        self,
        workspace: str,
        task: str,
        given: Mapping[str, Any],
        source: str,
        email: str | None = None,
    ) -> UUID: ...
    def cancel(self, job_id: UUID, email: str | None = None) -> None: ...
    def rerun(self, job_id: UUID, email: str | None) -> UUID: ...
    def restart_failed(self, job_id: UUID, email: str | None) -> None: ...
    def person(self, email: str | None) -> str:
        """The e-mail of this active user; None: of the only one. Raises InputError."""

    def decide(self, job_id: UUID, step: str, email: str, verdict: Verdict) -> Decision: ...

    def import_folder(self, name: str, path: Path, directory: str = "") -> Imported: ...
    def takers(self, tag_set: str, workspace: str) -> list[str]:
        """Names of the live workers that could run steps of this tag set."""

    def workers(self, *, with_gone: bool) -> list[WorkerLine]:
        """Newest first. `with_gone`: also those that have stopped."""

    def libraries(self, workspace: str | None) -> list[LibraryLine]: ...
    def refresh_libraries(self, workspace: str, name: str | None) -> None:
        """Move the pin of this library, or of all, and read the workspace."""

    def secrets(self, workspace: str) -> list[SecretLine]: ...
    def store_secret(self, workspace: str, name: str, value: str) -> None: ...
    def remove_secret(self, workspace: str, name: str) -> None: ...
    def connections(self, workspace: str) -> list[ConnectionLine]: ...
    def store_connection(
        self, workspace: str, name: str, kind: str | None, values: Mapping[str, Any]
    ) -> int:
        """All of its values, or without a type those that change. Its new version."""

    def remove_connection(self, workspace: str, name: str) -> bool:
        """From the database; whether the files have one of this name."""

    def check_connection(self, workspace: str, name: str, email: str | None) -> UUID:
        """The job that checks it."""

    def unserved(self, workspace: str) -> str | None:
        """A warning if workers live, but none of them serves this workspace."""

    def connection_notes(self, workspace: str, definition: Definition) -> list[str]:
        """What the database of the workspace has in place of connections of these files."""

    def audit(self, wanted: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        """Entries of the audit log, newest first. `wanted`: who, what, object, workspace, address,
        key; `since` and `until` in ISO format, with a zone."""

    def remove_workspace(self, name: str) -> int:
        """Returns how many jobs went with it."""

    def import_git(self, name: str, address: str, ref: str, credential: str) -> Imported: ...
