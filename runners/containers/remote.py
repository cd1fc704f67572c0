"""What the runners share whose steps run in a container elsewhere: on an engine, or in a
cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from engine.errors import AuthorError, PlatformError
from engine.orders import Line, ScriptWork, StepOrder, StepOutcome, Verdict
from runners.base import LineSink
from runners.containers.script import READ_ONLY_REMEDY, is_read_only_complaint
from runners.lines import LineFeed


class Underway:
    """The attempts that a runner is doing; for many threads."""

    def __init__(self) -> None:
        self._attempts: set[str] = set()
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, attempt: str) -> Iterator[None]:
        with self._lock:
            self._attempts.add(attempt)
        try:
            yield
        finally:
            with self._lock:
                self._attempts.discard(attempt)

    def without(self, attempts: frozenset[str]) -> frozenset[str]:
        """Those of `attempts` that are not under way."""
        with self._lock:
            return attempts - self._attempts


class Attempt(Protocol):
    def run(self) -> StepOutcome: ...

    def remove(self) -> None:
        """Remove whatever it has made; what cannot be removed now is left to a sweep."""
        ...


def carry_out(attempt: Attempt, feed: LineFeed) -> StepOutcome:
    """Do the attempt and remove it. What its author can mend is a failure; what he cannot is a
    loss."""
    try:
        return attempt.run()
    except AuthorError as refusal:
        return feed.outcome(Verdict.FAILED, getattr(refusal, "exit_code", None), str(refusal))
    except PlatformError as failure:
        return feed.outcome(Verdict.LOST, None, str(failure))
    # an engine's or a cluster's are PlatformErrors by now: these are the worker's own files
    except OSError as failure:
        return feed.outcome(
            Verdict.LOST, None, f"The worker could not prepare the step's files: {failure}"
        )
    finally:
        attempt.remove()


class ComplaintWatch:
    """A sink that notices when a tool complains about a read-only file system."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink
        self._has_complained = False

    def __call__(self, line: Line) -> None:
        if not self._has_complained and line.stream != "server":
            self._has_complained = is_read_only_complaint(line.text)
        self._sink(line)

    def name_remedy(self, order: StepOrder, outcome: StepOutcome, feed: LineFeed) -> None:
        """One line more where a step failed that wrote, or so it seems, to a workspace mounted
        read-only."""
        if not self._has_complained or outcome.verdict is not Verdict.FAILED:
            return
        if isinstance(order.work, ScriptWork) and order.work.workspace_mode == "readonly":
            feed.say(READ_ONLY_REMEDY)
