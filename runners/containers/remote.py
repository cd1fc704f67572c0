"""What runners share whose steps run in containers on an engine or in a cluster: how an attempt is
carried out, and why it must end early."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from engine.errors import AuthorError, PlatformError
from engine.orders import Limits, Line, ScriptWork, StepOrder, StepOutcome, Verdict
from runners.base import LineSink, StopSignal, limit_grace
from runners.containers.script import READ_ONLY_REMEDY, is_read_only_complaint
from runners.lines import LineFeed


class Underway:
    """The attempts that a runner is running. Thread-safe."""

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
        with self._lock:
            return attempts - self._attempts


class Attempt(Protocol):
    def run(self) -> StepOutcome: ...

    def remove(self) -> None:
        """Remove everything it created; a sweep takes what cannot be removed now."""
        ...


def carry_out(attempt: Attempt, feed: LineFeed) -> StepOutcome:
    """Run the attempt and remove it. An error that the author can fix is a failure; any other is a
    loss."""
    try:
        return attempt.run()
    except AuthorError as refusal:
        return feed.outcome(Verdict.FAILED, getattr(refusal, "exit_code", None), str(refusal))
    except PlatformError as failure:
        return feed.outcome(Verdict.LOST, None, str(failure))
    # errors of an engine or a cluster are PlatformErrors by now: this one is about the worker's
    # files
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
        """Add a hint when a failed step seems to have written to a workspace that is mounted
        read-only."""
        if not self._has_complained or outcome.verdict is not Verdict.FAILED:
            return
        if isinstance(order.work, ScriptWork) and order.work.workspace_mode == "readonly":
            feed.say(READ_ONLY_REMEDY)


class EndSignal:
    """Set by the stop signal or the time limit, whichever comes first; `cause` says which."""

    def __init__(self, stop: StopSignal, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._is_set = threading.Event()
        self._is_closed = False
        self._actions: list[Callable[[], None]] = []
        self.cause: str | None = None
        self.since: float | None = None  # monotonic
        self._timer: threading.Timer | None = None
        if limits.timeout_s is not None:
            self._timer = threading.Timer(max(limits.timeout_s, 0.0), self._set, args=("timeout",))
            self._timer.daemon = True
            self._timer.start()
        stop.on_set(lambda: self._set(stop.reason or "lost"))

    def __enter__(self) -> EndSignal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def grace_s(self) -> float:
        """Seconds between TERM and KILL."""
        return limit_grace(self._limits.stop_grace_s, self.cause)

    def close(self) -> None:
        """The attempt has ended: nothing sets the signal from now on."""
        with self._lock:
            self._is_closed = True
            self._actions.clear()
        if self._timer is not None:
            self._timer.cancel()

    def wait(self, timeout_s: float) -> bool:
        return self._is_set.wait(timeout_s)

    def when_set(self, action: Callable[[], None]) -> None:
        """Call `action` once, in its own thread, as soon as the signal is set."""
        with self._lock:
            if self._is_closed:
                return
            if self.cause is None:
                self._actions.append(action)
                return
        _begin(action)

    def _set(self, cause: str) -> None:
        with self._lock:
            if self._is_closed or self.cause is not None:
                return
            self.cause = cause
            self.since = time.monotonic()
            actions, self._actions = self._actions, []
        self._is_set.set()
        for action in actions:
            _begin(action)


def _begin(action: Callable[[], None]) -> None:
    threading.Thread(target=action, name="stroem-ending", daemon=True).start()
