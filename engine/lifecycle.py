"""The life-cycle table: (status, event) -> status, one destination per event.

Callers say what happened, not the new status. Terminal statuses are final: only `reopened` leaves
them, which opens the next generation of a failed or cancelled job.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class StepStatus(StrEnum):
    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STEP


class JobStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_JOB


class StepEventKind(StrEnum):
    """The events of a step."""

    UNBLOCKED = "unblocked"  # dependencies ended, may run now
    CLAIMED = "claimed"  # a worker took it
    DISPATCHED = "dispatched"  # the server works on it: a loop opened, a child job started
    SUSPENDED = "suspended"  # waits for a decision
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    RETRIED = "retried"  # failed, and another attempt is due later
    RETURNED = "returned"  # its attempt was lost before it counted: back in the queue
    REOPENED = "reopened"  # next generation


S, E = StepStatus, StepEventKind

STEP_TABLE: dict[tuple[StepStatus, StepEventKind], StepStatus] = {
    (S.PENDING, E.UNBLOCKED): S.READY,
    (S.PENDING, E.DISPATCHED): S.RUNNING,
    (S.PENDING, E.SUSPENDED): S.SUSPENDED,
    (S.PENDING, E.SUCCEEDED): S.COMPLETED,
    (S.PENDING, E.FAILED): S.FAILED,
    (S.PENDING, E.SKIPPED): S.SKIPPED,
    (S.PENDING, E.CANCELLED): S.CANCELLED,
    (S.READY, E.CLAIMED): S.RUNNING,
    (S.READY, E.FAILED): S.FAILED,
    (S.READY, E.CANCELLED): S.CANCELLED,
    (S.RUNNING, E.SUCCEEDED): S.COMPLETED,
    (S.RUNNING, E.FAILED): S.FAILED,
    (S.RUNNING, E.CANCELLED): S.CANCELLED,
    (S.RUNNING, E.SKIPPED): S.SKIPPED,
    (S.RUNNING, E.RETRIED): S.PENDING,
    (S.RUNNING, E.RETURNED): S.READY,
    (S.SUSPENDED, E.SUCCEEDED): S.COMPLETED,
    (S.SUSPENDED, E.FAILED): S.FAILED,
    (S.SUSPENDED, E.CANCELLED): S.CANCELLED,
    (S.FAILED, E.REOPENED): S.PENDING,
    (S.SKIPPED, E.REOPENED): S.PENDING,
    (S.CANCELLED, E.REOPENED): S.PENDING,
}
FINAL_STEP = frozenset({S.COMPLETED, S.FAILED, S.SKIPPED, S.CANCELLED})


class JobEventKind(StrEnum):
    STARTED = "started"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REOPENED = "reopened"


J, F = JobStatus, JobEventKind

JOB_TABLE: dict[tuple[JobStatus, JobEventKind], JobStatus] = {
    (J.PENDING, F.STARTED): J.RUNNING,
    (J.PENDING, F.SUCCEEDED): J.COMPLETED,
    (J.PENDING, F.FAILED): J.FAILED,
    (J.PENDING, F.CANCELLED): J.CANCELLED,
    (J.RUNNING, F.SUCCEEDED): J.COMPLETED,
    (J.RUNNING, F.FAILED): J.FAILED,
    (J.RUNNING, F.CANCELLED): J.CANCELLED,
    (J.FAILED, F.REOPENED): J.RUNNING,
    (J.CANCELLED, F.REOPENED): J.RUNNING,
}
FINAL_JOB = frozenset({J.COMPLETED, J.FAILED, J.CANCELLED})


def step_sources(event: StepEventKind) -> tuple[StepStatus, ...]:
    """Statuses that `event` may leave; the guard of an UPDATE."""
    return tuple(status for (status, kind) in STEP_TABLE if kind is event)


def step_target(event: StepEventKind) -> StepStatus:
    """The one status where `event` lands."""
    return next(target for (_, kind), target in STEP_TABLE.items() if kind is event)


def job_sources(event: JobEventKind) -> tuple[JobStatus, ...]:
    """Statuses that `event` may leave; the guard of an UPDATE."""
    return tuple(status for (status, kind) in JOB_TABLE if kind is event)


def job_target(event: JobEventKind) -> JobStatus:
    """The one status where `event` lands."""
    return next(target for (_, kind), target in JOB_TABLE.items() if kind is event)


class RequestStatus(StrEnum):
    """Of an approval request."""

    OPEN = "open"
    APPROVED = "approved"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


class RequestEventKind(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"  # its job was cancelled, or its step continued without it


class SessionStatus(StrEnum):
    """Of a worker's session with one job."""

    OPEN = "open"
    CLOSING = "closing"  # it runs the actions set off by its leaving
    CLOSED = "closed"
    LOST = "lost"


class SessionEventKind(StrEnum):
    LEAVING = "leaving"
    LEFT = "left"
    LOST = "lost"


class AllocationStatus(StrEnum):
    """Of nodes requested from Slurm."""

    REQUESTED = "requested"  # not submitted yet
    PENDING = "pending"  # in Slurm's queue
    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"  # Slurm no longer knows it


class AllocationEventKind(StrEnum):
    QUEUED = "queued"  # submitted, or requeued by Slurm
    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"


R, Q = RequestStatus, RequestEventKind
W, V = SessionStatus, SessionEventKind
A, L = AllocationStatus, AllocationEventKind

REQUEST_TABLE: dict[tuple[RequestStatus, RequestEventKind], RequestStatus] = {
    (R.OPEN, Q.APPROVED): R.APPROVED,
    (R.OPEN, Q.REJECTED): R.REJECTED,
    (R.OPEN, Q.TIMED_OUT): R.TIMED_OUT,
    (R.OPEN, Q.CANCELLED): R.CANCELLED,
}
SESSION_TABLE: dict[tuple[SessionStatus, SessionEventKind], SessionStatus] = {
    (W.OPEN, V.LEAVING): W.CLOSING,
    (W.OPEN, V.LEFT): W.CLOSED,
    (W.OPEN, V.LOST): W.LOST,
    (W.CLOSING, V.LEFT): W.CLOSED,
    (W.CLOSING, V.LOST): W.LOST,
}
LIVE_SESSION = (W.OPEN, W.CLOSING)
OPEN_ALLOCATION = (A.REQUESTED, A.PENDING, A.ACTIVE)
# Slurm is polled, may requeue started jobs, and may start a job whose acceptance we missed: every
# open status leads everywhere.
ALLOCATION_TABLE: dict[tuple[AllocationStatus, AllocationEventKind], AllocationStatus] = {
    (source, event): target
    for source in OPEN_ALLOCATION
    for event, target in (
        (L.QUEUED, A.PENDING),
        (L.STARTED, A.ACTIVE),
        (L.COMPLETED, A.COMPLETE),
        (L.FAILED, A.FAILED),
        (L.LOST, A.LOST),
    )
}

Status = TypeVar("Status", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def move_of(
    table: Mapping[tuple[Status, Event], Status], event: Event
) -> tuple[list[Status], Status]:
    """Statuses that `event` may leave, and the one it leads to."""
    moves = [(source, target) for (source, kind), target in table.items() if kind is event]
    return [source for source, _ in moves], moves[0][1]
