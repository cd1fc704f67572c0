"""Maps Slurm's job states to allocation statuses."""

from __future__ import annotations

from typing import Literal

Status = Literal["pending", "active", "complete", "failed", "lost"]

_PENDING = frozenset(
    "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT".split()
)
_ACTIVE = frozenset("RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT".split())
_LOST = frozenset(("NODE_FAIL", "BOOT_FAIL"))
_TAKEN = frozenset("CANCELLED PREEMPTED NODE_FAIL BOOT_FAIL TIMEOUT DEADLINE REVOKED".split())


def status_of(state: str, *, was_cancelled: bool) -> Status:
    """`state` as `squeue` or `scontrol` prints it. `was_cancelled`: we cancelled it, so it is not a
    failure."""
    word = _word(state)
    if word in _PENDING:
        return "pending"
    if word in _ACTIVE:
        return "active"
    if word in _LOST:
        return "lost"
    if word == "COMPLETED" or (word == "CANCELLED" and was_cancelled):
        return "complete"
    return "failed"


def is_taken_away(state: str) -> bool:
    """Whether nodes were taken from a job that had done nothing wrong."""
    return _word(state) in _TAKEN


def hint(state: str, walltime: str = "") -> str:
    """What the end of an allocation in this state means for its steps, in brackets; or nothing."""
    match _word(state):
        case "TIMEOUT":
            return f" (its walltime{f' of {walltime}' if walltime else ''} ended)"
        case "OUT_OF_MEMORY":
            return " (it used more memory than it had: raise `mem` of its scheduler)"
        case _:
            return ""


def _word(state: str) -> str:
    return (state.strip().upper() or " ").split(" ")[0].split("+")[0]
