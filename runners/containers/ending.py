"""Why an attempt in a container or pod has to end before it ends by itself: its stop signal or its
time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from engine.orders import Limits, StepOutcome, Verdict
from runners.base import DRAIN_GRACE_S, StopSignal, explain_loss
from runners.lines import LineFeed

LONGEST_GRACE_S = 7.0  # what ignores TERM has to be gone ten seconds after the request
TIMEOUT = "timeout"


class Ending:
    """Becomes set by the stop signal or by the time limit, whichever comes first; knows what that
    makes the outcome."""

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
            self._timer = threading.Timer(max(limits.timeout_s, 0.0), self._set, args=(TIMEOUT,))
            self._timer.daemon = True
            self._timer.start()
        stop.on_set(lambda: self._set(stop.reason or "lost"))

    def __enter__(self) -> Ending:
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
        longest = DRAIN_GRACE_S if self.cause == "drain" else LONGEST_GRACE_S
        return min(max(self._limits.stop_grace_s, 0.0), longest)

    def close(self) -> None:
        """From now on nothing sets it any more: the attempt has ended."""
        with self._lock:
            self._is_closed = True
            self._actions.clear()
        if self._timer is not None:
            self._timer.cancel()

    def wait(self, timeout_s: float) -> bool:
        return self._is_set.wait(timeout_s)

    def when_set(self, action: Callable[[], None]) -> None:
        """Do `action` in a thread of its own, once, as soon as it is set."""
        with self._lock:
            if self._is_closed:
                return
            if self.cause is None:
                self._actions.append(action)
                return
        _begin(action)

    def settle(self, feed: LineFeed, exit_code: int | None = None) -> StepOutcome:
        """The outcome of an attempt that was ended. Only after it was set."""
        match self.cause:
            case "cancel":
                return feed.outcome(Verdict.CANCELLED, exit_code, "Job cancelled")
            case "timeout":
                return feed.outcome(
                    Verdict.TIMED_OUT,
                    exit_code,
                    f"Step timed out after {self._limits.timeout_s:g}s",
                )
            case _:
                return feed.outcome(Verdict.LOST, exit_code, explain_loss(self.cause))

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
