"""What can be subscribed to, and how often a message is tried."""

from __future__ import annotations

from typing import Any

from engine.lifecycle import JobStatus

PING = "ping"
STEP_FAILED = "step.failed"
# by the status of a suspension, as `apps.jobs.ports` tells it
OF_APPROVALS = {
    "suspended": "approval.requested",
    "reminder": "approval.reminded",
    "escalated": "approval.escalated",
}
EVENTS = (
    *(f"job.{status}" for status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)),
    STEP_FAILED,
    *OF_APPROVALS.values(),
)
MINUTE, HOUR = 60, 3600
WAITS_S = (10, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 8 * HOUR)  # after each failed try
JITTER = 0.2
LONGEST_WAIT_S = 8 * HOUR  # that a receiver may ask for
LONGEST_REST_S = 5 * MINUTE
LONGEST_TEXT = 4000  # characters of an error or a message
LARGEST_OUTPUT = 64_000  # bytes


def wait_after(tries: int, chance: float, asked_s: float | None = None) -> float | None:
    """Seconds until the next try, after `tries` of them; None: it was the last. `chance` is
    between 0 and 1; `asked_s`: the receiver's `Retry-After`."""
    if tries > len(WAITS_S):
        return None
    wait_s = WAITS_S[tries - 1] * (1 - JITTER + 2 * JITTER * chance)
    return max(wait_s, min(asked_s or 0.0, LONGEST_WAIT_S))


def rest_after(failures: int, asked_s: float | None = None) -> float:
    """Seconds in which a receiver that failed so many times in a row is sent nothing at all."""
    rest_s: float = min(WAITS_S[0] * 2 ** (min(failures, 10) - 1), LONGEST_REST_S)
    return max(rest_s, min(asked_s or 0.0, HOUR))


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def content(event: str, at: str, data: dict[str, Any]) -> dict[str, Any]:
    """The body of a message."""
    return {"type": event, "timestamp": at, "data": data}
