"""The runner interface, and the two objects that a runner gets with its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from engine.orders import Line, StepOrder, StepOutcome

_LONGEST_GRACE_S = 7.0  # a process that ignores TERM must be gone ten seconds after the request
# a draining worker already gave its steps time to finish, and others wait for it to exit
_DRAIN_GRACE_S = 1.5

# Language -> the programs that run it, best first, and what to install when none is present.
ADVICE = {
    "shell": (("bash", "sh"), "bash"),
    "python": (("uv", "python3", "python"), "uv or Python 3"),
    "javascript": (("bun", "node"), "bun or Node.js"),
    "typescript": (("bun", "deno"), "bun or deno"),
    "go": (("go",), "Go"),
}

_REASONS = {
    "drain": "it was told to leave",
    "lost": "its claim could not be renewed",
    "walltime": "its allocation's time is over",
}


def explain_loss(reason: str | None) -> str:
    """The error of a step that the worker ended for a `reason` other than a user's request."""
    return f"The worker ended the step before its end ({_REASONS.get(reason or 'lost', reason)})"


def limit_grace(grace_s: float, reason: str | None, last_s: float | None = None) -> float:
    """Seconds between TERM and KILL for a step with this `grace_s` that ends for `reason`.
    `last_s`: for a step whose allocation ends."""
    if reason == "walltime" and last_s is not None:
        return last_s
    return min(max(grace_s, 0.0), _DRAIN_GRACE_S if reason == "drain" else _LONGEST_GRACE_S)


class LineSink(Protocol):
    """Takes lines in order. May block for a moment (back-pressure); never raises for bad text."""

    def __call__(self, line: Line) -> None: ...


class StopSignal(Protocol):
    """Tells whether the attempt must end. Once set, `reason` is 'cancel', 'drain' or 'lost'."""

    @property
    def reason(self) -> str | None: ...

    def wait(self, timeout_s: float) -> bool:
        """True as soon as the signal is set, False after `timeout_s` seconds."""
        ...

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, from any thread, when the signal is set (at once if it already
        is)."""
        ...


class Runner(Protocol):
    """Runs one step. Knows no database, no queue and no other runner."""

    needs: ClassVar[frozenset[str]]

    def run(self, order: StepOrder, lines: LineSink, stop: StopSignal) -> StepOutcome:
        """Run the attempt to its end. Everything it started is gone when this returns."""
        ...

    def sweep(self, live: frozenset[str]) -> None:
        """Remove leftovers of attempts that are not in `live`; safe to call twice."""
        ...


class RemoteRunner(Runner, Protocol):
    """A runner whose steps outlive this process: on an engine or in a cluster.

    Several workers, even of several installations, share such a place. No worker decides from its
    own knowledge alone: an attempt that has ended has ended for all of them, and any of them may
    remove its leftovers.
    """

    def find_attempts(self) -> frozenset[str]:
        """Attempts that left something there, whichever worker started them."""
        ...

    def abandon(self, attempts: frozenset[str]) -> None:
        """End these attempts, except those under way in this runner, and remove their leftovers;
        safe to call twice."""
        ...
