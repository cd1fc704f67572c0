"""The tables of life: (status, event) -> status, one destination an event.

Callers say what happened, never where to land. Terminal statuses absorb: no event leaves them, save
`reopened`, which opens the next generation of a failed or cancelled job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    """What can happen to a step."""

    UNBLOCKED = "unblocked"  # dependencies settled, may run now
    CLAIMED = "claimed"  # a worker took it
    DISPATCHED = "dispatched"  # the server works on it: a loop opened, a child job started
    SUSPENDED = "suspended"  # waits for a decision
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    RETRIED = "retried"  # failed, and another attempt is due later
    RETURNED = "returned"  # its attempt was lost before it counted: back in the queue
    PARKED = "parked"  # its attempt has ended, and child jobs work for it
    RESUMED = "resumed"  # what it waited for is there: back in the queue
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
    (S.RUNNING, E.PARKED): S.RUNNING,
    (S.RUNNING, E.SUSPENDED): S.SUSPENDED,
    (S.RUNNING, E.RESUMED): S.READY,
    (S.SUSPENDED, E.RESUMED): S.READY,
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
OPEN_JOB = (J.PENDING, J.RUNNING)


class AttemptStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"  # with its worker, or given back


class AttemptEventKind(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


ATTEMPT_TABLE: dict[tuple[AttemptStatus, AttemptEventKind], AttemptStatus] = {
    (AttemptStatus.RUNNING, AttemptEventKind.SUCCEEDED): AttemptStatus.COMPLETED,
    (AttemptStatus.RUNNING, AttemptEventKind.FAILED): AttemptStatus.FAILED,
    (AttemptStatus.RUNNING, AttemptEventKind.CANCELLED): AttemptStatus.CANCELLED,
    (AttemptStatus.RUNNING, AttemptEventKind.LOST): AttemptStatus.LOST,
}


class OwnerKind(StrEnum):
    """Who a row that can be claimed works for."""

    STEP = "step"  # the flow of its job
    ACTION = "action"  # a workflow action


class ActionStatus(StrEnum):
    WAITING = "waiting"  # for what it watches
    HELD = "held"  # it was set off, and waits for actions that it needs
    ARMED = "armed"  # may be done
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  # a restart came before it was done


class ActionEventKind(StrEnum):
    """What can happen to a workflow action."""

    HELD = "held"
    ARMED = "armed"
    CLAIMED = "claimed"
    RETURNED = "returned"  # it is to be done again, or by another session
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    CALLED_OFF = "called_off"  # nobody had begun it
    SUPERSEDED = "superseded"


A, G = ActionStatus, ActionEventKind
UNENDED_ACTION = (A.WAITING, A.HELD, A.ARMED, A.RUNNING)
UNBEGUN_ACTION = (A.WAITING, A.HELD, A.ARMED)

ACTION_TABLE: dict[tuple[ActionStatus, ActionEventKind], ActionStatus] = {
    (A.WAITING, G.HELD): A.HELD,
    (A.WAITING, G.ARMED): A.ARMED,
    (A.HELD, G.ARMED): A.ARMED,
    (A.ARMED, G.CLAIMED): A.RUNNING,
    (A.RUNNING, G.RETURNED): A.ARMED,
    **{(status, G.SUCCEEDED): A.SUCCEEDED for status in UNENDED_ACTION},
    **{(status, G.FAILED): A.FAILED for status in UNENDED_ACTION},
    **{(status, G.SKIPPED): A.SKIPPED for status in UNENDED_ACTION},
    **{(status, G.CANCELLED): A.CANCELLED for status in UNENDED_ACTION},
    **{(status, G.CALLED_OFF): A.CANCELLED for status in UNBEGUN_ACTION},
    **{(status, G.SUPERSEDED): A.SUPERSEDED for status in UNBEGUN_ACTION},
}
FINAL_ACTION = frozenset(ActionStatus) - frozenset(UNENDED_ACTION)


class SessionStatus(StrEnum):
    OPEN = "open"
    CLOSING = "closing"  # it does what its leaving sets off
    CLOSED = "closed"
    LOST = "lost"


class SessionEventKind(StrEnum):
    LEAVING = "leaving"
    CLOSED = "closed"
    LOST = "lost"


SESSION_TABLE: dict[tuple[SessionStatus, SessionEventKind], SessionStatus] = {
    (SessionStatus.OPEN, SessionEventKind.LEAVING): SessionStatus.CLOSING,
    (SessionStatus.OPEN, SessionEventKind.CLOSED): SessionStatus.CLOSED,
    (SessionStatus.CLOSING, SessionEventKind.CLOSED): SessionStatus.CLOSED,
    (SessionStatus.OPEN, SessionEventKind.LOST): SessionStatus.LOST,
    (SessionStatus.CLOSING, SessionEventKind.LOST): SessionStatus.LOST,
}


class AllocationStatus(StrEnum):
    REQUESTED = "requested"  # not submitted yet
    PENDING = "pending"  # in Slurm's queue
    ACTIVE = "active"
    COMPLETE = "complete"
    FAILED = "failed"
    LOST = "lost"  # Slurm does not know it any more


class AllocationEventKind(StrEnum):
    """What becomes of nodes that were asked for: what we did, and what Slurm says."""

    SUBMITTED = "submitted"
    BEGUN = "begun"  # a worker has come up
    GIVEN_UP = "given_up"  # it was never submitted
    QUEUED = "queued"
    RUNS = "runs"
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"


L, N = AllocationStatus, AllocationEventKind
OPEN_ALLOCATION = (L.REQUESTED, L.PENDING, L.ACTIVE)

ALLOCATION_TABLE: dict[tuple[AllocationStatus, AllocationEventKind], AllocationStatus] = {
    (L.REQUESTED, N.SUBMITTED): L.PENDING,
    (L.REQUESTED, N.BEGUN): L.ACTIVE,
    (L.PENDING, N.BEGUN): L.ACTIVE,
    (L.REQUESTED, N.GIVEN_UP): L.FAILED,
    **{(status, N.QUEUED): L.PENDING for status in OPEN_ALLOCATION},
    **{(status, N.RUNS): L.ACTIVE for status in OPEN_ALLOCATION},
    **{(status, N.COMPLETED): L.COMPLETE for status in OPEN_ALLOCATION},
    **{(status, N.FAILED): L.FAILED for status in OPEN_ALLOCATION},
    **{(status, N.LOST): L.LOST for status in OPEN_ALLOCATION},
}


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
    CANCELLED = "cancelled"  # its job was cancelled, or its step went on without it


REQUEST_TABLE: dict[tuple[RequestStatus, RequestEventKind], RequestStatus] = {
    (RequestStatus.OPEN, RequestEventKind.APPROVED): RequestStatus.APPROVED,
    (RequestStatus.OPEN, RequestEventKind.REJECTED): RequestStatus.REJECTED,
    (RequestStatus.OPEN, RequestEventKind.TIMED_OUT): RequestStatus.TIMED_OUT,
    (RequestStatus.OPEN, RequestEventKind.CANCELLED): RequestStatus.CANCELLED,
}


class FiringStatus(StrEnum):
    """Of one time that a trigger fired, or should have."""

    WAITING = "waiting"  # for quiet, for room, or for the workspace to be read again
    STARTED = "started"  # a job
    SKIPPED = "skipped"  # by the trigger's own rules
    MISSED = "missed"  # nobody was there at the time
    REFUSED = "refused"  # the job could not be created
    DEAD = "dead"  # nor could that of an event, which is kept until a person deals with it
    SUPERSEDED = "superseded"  # by a later one, before its job started


class FiringEventKind(StrEnum):
    STARTED = "started"
    SKIPPED = "skipped"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    DIED = "died"
    SENT_AGAIN = "sent_again"
    DISCARDED = "discarded"


FIRING_TABLE: dict[tuple[FiringStatus, FiringEventKind], FiringStatus] = {
    (FiringStatus.WAITING, FiringEventKind.STARTED): FiringStatus.STARTED,
    (FiringStatus.WAITING, FiringEventKind.SKIPPED): FiringStatus.SKIPPED,
    (FiringStatus.WAITING, FiringEventKind.REFUSED): FiringStatus.REFUSED,
    (FiringStatus.WAITING, FiringEventKind.SUPERSEDED): FiringStatus.SUPERSEDED,
    (FiringStatus.WAITING, FiringEventKind.DIED): FiringStatus.DEAD,
    (FiringStatus.DEAD, FiringEventKind.SENT_AGAIN): FiringStatus.WAITING,
    (FiringStatus.DEAD, FiringEventKind.DISCARDED): FiringStatus.SKIPPED,
}


class DeliveryStatus(StrEnum):
    """Of one message to the receiver of a subscription."""

    WAITING = "waiting"  # to be sent, or sent again
    DELIVERED = "delivered"
    FAILED = "failed"  # given up


class DeliveryEventKind(StrEnum):
    DELIVERED = "delivered"
    TRIED = "tried"  # in vain
    GIVEN_UP = "given_up"


DELIVERY_TABLE: dict[tuple[DeliveryStatus, DeliveryEventKind], DeliveryStatus] = {
    (DeliveryStatus.WAITING, DeliveryEventKind.DELIVERED): DeliveryStatus.DELIVERED,
    (DeliveryStatus.WAITING, DeliveryEventKind.TRIED): DeliveryStatus.WAITING,
    (DeliveryStatus.WAITING, DeliveryEventKind.GIVEN_UP): DeliveryStatus.FAILED,
}


class CallStatus(StrEnum):
    """Of a tool call that a language model has asked for."""

    WANTED = "wanted"
    ASKED = "asked"  # a person decides or answers
    APPROVED = "approved"  # with its digest: it will be made, once
    BEGUN = "begun"  # from here on, it may have had its effect
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"  # it was never made


class CallEventKind(StrEnum):
    ASKED = "asked"
    APPROVED = "approved"
    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    LOST = "lost"  # its process died before the result was stored: people decide what then


C, K = CallStatus, CallEventKind
OPEN_CALL = (C.WANTED, C.ASKED, C.APPROVED, C.BEGUN)
TO_MAKE = (C.WANTED, C.APPROVED)

CALL_TABLE: dict[tuple[CallStatus, CallEventKind], CallStatus] = {
    (C.WANTED, K.ASKED): C.ASKED,
    (C.WANTED, K.BEGUN): C.BEGUN,
    (C.ASKED, K.APPROVED): C.APPROVED,
    (C.APPROVED, K.BEGUN): C.BEGUN,
    (C.ASKED, K.DONE): C.DONE,
    (C.BEGUN, K.DONE): C.DONE,
    (C.BEGUN, K.FAILED): C.FAILED,
    (C.BEGUN, K.LOST): C.ASKED,
    (C.WANTED, K.REFUSED): C.REFUSED,
    (C.ASKED, K.REFUSED): C.REFUSED,
    (C.APPROVED, K.REFUSED): C.REFUSED,
}

Status = TypeVar("Status", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


def sources(table: Mapping[tuple[Status, Event], Status], event: Event) -> tuple[Status, ...]:
    """Statuses that `event` may leave; the guard of an UPDATE."""
    return tuple(status for (status, kind) in table if kind is event)


def target(table: Mapping[tuple[Status, Event], Status], event: Event) -> Status:
    """The one status where `event` lands."""
    return next(found for (_, kind), found in table.items() if kind is event)


def choices(enum: type[StrEnum]) -> list[tuple[str, str]]:
    """The members as the choices of a field."""
    return [(member.value, member.value) for member in enum]


@dataclass(frozen=True, slots=True)
class Move:
    """What an event does to a row: where it lands, and the statuses that it may leave. As the plain
    texts that a statement takes."""

    target: str
    sources: list[str]


def _by_event(table: Mapping[tuple[Status, Event], Status]) -> dict[Event, Move]:
    """The table as statements read it, worked out once: steps and jobs move often."""
    return {
        event: Move(landing.value, [status.value for status in sources(table, event)])
        for (_, event), landing in table.items()
    }


STEP_MOVES = _by_event(STEP_TABLE)
JOB_MOVES = _by_event(JOB_TABLE)
REQUEST_MOVES = _by_event(REQUEST_TABLE)
