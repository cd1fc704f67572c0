"""Maps Slurm's job states to allocation statuses."""

from __future__ import annotations

from typing import Literal

Status = Literal["pending", "active", "complete", "failed", "lost"]

_PENDING = frozenset(
    "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD RESV_DEL_HOLD SPECIAL_EXIT".split()
)
_ACTIVE = frozenset("RUNNING COMPLETING SUSPENDED STOPPED RESIZING SIGNALING STAGE_OUT".split())
_LOST = frozenset(("NODE_FAIL", "BOOT_FAIL"))


def status_of(state: str, *, was_cancelled: bool) -> Status:
    """`state` as `squeue` or `scontrol` prints it. `was_cancelled`: we cancelled it, so it is not a
    failure."""
    word = state.strip().upper().split(" ")[0].split("+")[0]
    if word in _PENDING:
        return "pending"
    if word in _ACTIVE:
        return "active"
    if word in _LOST:
        return "lost"
    if word == "COMPLETED" or (word == "CANCELLED" and was_cancelled):
        return "complete"
    return "failed"
