"""The runner interface, and the two things that a runner is handed beside its order."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from engine.orders import Line, StepOrder, StepOutcome

_LONGEST_GRACE_S = 7.0  # what ignores TERM has to be gone ten seconds after the request
# a worker that leaves has given its steps their time already, and is waited for itself
_DRAIN_GRACE_S = 1.5

# Language -> the programs that run it, best first, and what to install where none of them is.
ADVICE = {
    "shell": (("bash", "sh"), "bash"),
    "python": (("uv", "python3", "python"), "uv or Python 3"),
    "javascript": (("bun", "node"), "bun or Node.js"),
    "typescript": (("bun", "deno"), "bun or deno"),
    "go": (("go",), "Go"),
}

_REASONS = {"drain": "it was told to leave", "lost": "its claim could not be renewed"}


def explain_loss(reason: str | None) -> str:
    """The error of a step that had to end for a `reason` which is not its user's."""
    return f"The worker ended the step before its end ({_REASONS.get(reason or 'lost', reason)})"


def limit_grace(grace_s: float, reason: str | None) -> float:
    """Seconds between TERM and KILL for a step that asks for `grace_s` and ends for `reason`."""
    return min(max(grace_s, 0.0), _DRAIN_GRACE_S if reason == "drain" else _LONGEST_GRACE_S)


class LineSink(Protocol):
    """Takes lines in order. May block for a moment (back-pressure); never raises for bad text."""

    def __call__(self, line: Line) -> None: ...


class StopSignal(Protocol):
    """Says whether the attempt must end. `reason` is 'cancel', 'drain' or 'lost' once it is set."""

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
    """Does one step somewhere. Knows no database, no queue and no other runner."""

    needs: ClassVar[frozenset[str]]

    def run(self, order: StepOrder, lines: LineSink, stop: StopSignal) -> StepOutcome:
        """Do the attempt to its end. Everything it started is gone when this returns."""
        ...

    def sweep(self, live: frozenset[str]) -> None:
        """Remove what attempts that are not in `live` left behind; safe to call twice."""
        ...


class RemoteRunner(Runner, Protocol):
    """A runner whose steps live on without this process, where others find them: on an engine, in a
    cluster.

    Several workers, also of several installations, share such a place. So nobody judges by what he
    knows himself: an attempt that is over is over for everybody, and whoever learns of it may
    remove what is left.
    """

    def find_attempts(self) -> frozenset[str]:
        """Attempts of which something exists, whoever began them."""
        ...

    def abandon(self, attempts: frozenset[str]) -> None:
        """End these attempts, but for those under way in this runner, and remove what is left; safe
        to call twice."""
        ...
