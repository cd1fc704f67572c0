"""Maps Slurm's job states to allocation statuses, and explains why jobs wait."""

from __future__ import annotations

from typing import Literal

Status = Literal["pending", "active", "complete", "failed", "lost"]

_PENDING = frozenset(
    "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT".split()
)
_ACTIVE = frozenset("RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT".split())
_LOST = frozenset(("NODE_FAIL", "BOOT_FAIL"))
_TAKEN = frozenset("CANCELLED PREEMPTED NODE_FAIL BOOT_FAIL TIMEOUT DEADLINE REVOKED".split())


# For reasons that do not pass by themselves; others, such as Priority, only take time.
_STUCK = {
    "PartitionTimeLimit": "the walltime is longer than the partition allows",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition takes no jobs now",
    "BadConstraints": "no node meets its constraints",
    "ReqNodeNotAvail": "nodes that it needs are down, drained or reserved",
    "JobHeldUser": "its owner holds it: scontrol release lets it go",
    "JobHeldAdmin": "an administrator holds it",
    "DependencyNeverSatisfied": "what it depends on can never come true",
    "AccountNotAllowed": "the account may not use the partition",
    "QOSNotAllowed": "the partition does not allow the QOS",
    "InvalidAccount": "the account is not known",
    "InvalidQOS": "the QOS is not known",
    "QOSMaxWallDurationPerJobLimit": "the walltime is longer than the QOS allows",
    "AssocMaxWallDurationPerJobLimit": "the walltime is longer than the account allows",
    "launch_failed_requeued_held": "it could not be launched: scontrol release tries again",
}


def why_waiting(reason: str) -> str:
    """Why a job waits: Slurm's own word, and what it means where that needs somebody to act."""
    word = reason.partition(",")[0].strip("() ")
    more = _STUCK.get(word)
    return f"{reason} ({more})" if more else reason


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
