"""The worker: its lanes, their bells and polls, its shutdown, and the signals that tell it to go.

Slurm, a service manager or a container engine may signal all processes at once. A step that ends at
that moment did not end by itself, and its exit code proves nothing, not even 0.
"""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any

from engine.orders import StepOutcome, Verdict
from engine.spec.tags import tag_set_key
from workers.attempts import Attempts, Presence, Reason, Stop
from workers.bells import Ear, Ringer
from workers.config import ABILITIES, WorkerConfig
from workers.door import OUTAGES, Bells, Ledger
from workers.lane import Lane
from workers.reporting import LogPump
from workers.visits import Visits

log = logging.getLogger("stroem.worker")
WATCH_S = 0.25
EXIT_S = 9.0  # from the stop signals to the end, even if something hangs
LAST_WORD_S = 4.0  # for reporting, after the steps' grace period
LOOK_EVERY_S = 0.01
SHORTEST_S, LONGEST_S, SHARE = 0.05, 1.0, 0.01
AROUND_S = 0.2
_SIGSET_BYTES = 128  # of the C library's type
BY_SIGNAL = frozenset(128 + number for number in (1, 2, 9, 15))
BY_SLURM = (
    "Slurm ended the allocation of this step (scancel, preemption, a lost node or the walltime)"
)
TOGETHER = "The worker and this step were told to end at the same time"


class Worker:
    """The work of one process: `start`, then `drain`."""

    def __init__(
        self,
        config: WorkerConfig,
        ledger: Ledger,
        bells: Bells,
        app: Any,
        presence: Presence,
        attempts: Attempts,
        pump: LogPump,
        ringer: Ringer,
        steps: Lane,
        others: Sequence[Lane] = (),
        visits: Visits | None = None,
    ) -> None:
        """`others`: the lanes besides `steps`; `visits` makes due what they do at the end."""
        self._config = config
        self._ledger = ledger
        self._presence = presence
        self._attempts = attempts
        self._pump = pump
        self._ringer = ringer
        self._steps = steps
        self._others = tuple(others)
        self._visits = visits
        keys = likely_keys(config.tags)
        name = f"{config.worker_name}@stroem"
        self._ear = Ear(app, bells, steps.slots, keys, self.hear, name=name)
        self._closed = threading.Event()
        self._leaving = Stop()
        self._poller = threading.Thread(target=self._poll, name="poller", daemon=True)

    @property
    def queues(self) -> tuple[str, ...]:
        """The tag sets whose bells this worker hears."""
        return self._ear.keys

    @property
    def is_listening(self) -> bool:
        """Whether a broker is connected; polling works without one."""
        return self._ear.is_listening

    @property
    def _lanes(self) -> tuple[Lane, ...]:
        return (self._steps, *self._others)

    def start(self) -> None:
        """Start claiming work. The presence must be registered."""
        for lane in self._others:
            lane.open()
        if self._visits is None or self._visits.home is None:
            self._steps.open()
        else:
            threading.Thread(target=self._enter_home, name="entrance", daemon=True).start()
        self._ledger.linger(True)
        self.refresh_tag_sets()
        for thread in (self._pump, self._ringer, self._presence, self._poller):
            thread.start()
        self._ear.start()

    def hear(self, key: str) -> None:
        """A bell rang for the tag set `key`. Runs in a slot of the steps' lane."""
        for lane in self._others:
            if key in lane.keys:
                lane.wake()
                return
        if key not in self._steps.keys and self._presence.may_claim:
            try:
                self.refresh_tag_sets()
            except OUTAGES as error:
                log.debug("reading tag sets: %s", type(error).__name__)
            finally:
                self._ledger.released()
        self._steps.look()

    def refresh_tag_sets(self) -> None:
        """Read which tag sets this worker covers, and listen for new ones."""
        for lane in self._lanes:
            lane.refresh()
            self._ear.add(lane.keys)

    def drain(
        self,
        wait_s: float,
        hurry: threading.Event,
        leave_by: float | None = None,
        *,
        reason: Reason = "drain",
        text: str = "",
        grace_s: float | None = None,
    ) -> int:
        """Claim no more steps, give running ones `wait_s` (or until `hurry` is set), stop the rest
        for `reason`, and do the actions on leaving the jobs. Returns the number of stopped steps.

        `leave_by`: when those actions must have ended, on the monotonic clock; by default,
        `drain_secs` after the steps. `grace_s`: what stopped steps have from TERM to KILL.
        """
        self._leaving.set("drain")
        self._steps.close()
        deadline = time.monotonic() + wait_s
        while (left_s := deadline - time.monotonic()) > 0 and not hurry.is_set():
            self._attempts.stop_endless(reason)
            if self._steps.slots.wait_until_idle(min(0.1, left_s)):
                break
        stopped = self._attempts.stop_all(reason, "step", text)
        self._ear.close()
        last_s = min(EXIT_S, self._config.stop_grace_secs + LAST_WORD_S)
        last_s = last_s if grace_s is None else grace_s + LAST_WORD_S
        if not self._end_steps(last_s, reason, text):
            log.warning(
                "%d steps did not end in time; when their leases run out, they count as lost",
                len(self._attempts.all("step")),
            )
        patience_s = self._config.drain_secs
        if leave_by is not None:
            patience_s = max(0.0, leave_by - time.monotonic())
        self._leave(0.0 if hurry.is_set() else patience_s)
        self._closed.set()
        self._presence.close()
        self._ringer.close()
        self._pump.close()
        self._retire()
        self._ledger.linger(False)
        return stopped

    def _enter_home(self) -> None:
        """Do what comes before the first step of the only job, then claim its steps."""
        assert self._visits is not None and self._visits.home is not None
        while self._leaving.reason is None:
            try:
                self._visits.enter(self._visits.home, self._leaving)
            except OUTAGES as error:
                log.debug("entering the job: %s", type(error).__name__)
                self._leaving.wait(1.0)
                continue
            finally:
                self._ledger.released()
            self._steps.open()
            if self._leaving.reason is not None:
                self._steps.close()
            self._steps.wake()
            return

    def _end_steps(self, within_s: float, reason: Reason, text: str) -> bool:
        """Wait until the steps' lane is idle; stop also what was being claimed when it closed."""
        deadline = time.monotonic() + within_s
        while not self._steps.slots.wait_until_idle(0.1):
            if time.monotonic() >= deadline:
                return not self._attempts.all("step")
            self._attempts.stop_all(reason, "step", text)
        return True

    def _leave(self, wait_s: float) -> None:
        """Do the actions on leaving the jobs; stop what still runs after `wait_s`."""
        deadline = time.monotonic() + wait_s
        visits = self._visits
        if visits is None or visits.home is None:
            for lane in self._others:
                lane.narrow()
        if visits is not None:
            visits.close(wait_s)
        while not self._is_all_done() and time.monotonic() < deadline:
            self._leaving_wait()
        for lane in self._others:
            lane.close()
        deadline = time.monotonic() + LAST_WORD_S + self._config.stop_grace_secs
        for lane in self._others:
            while not lane.slots.wait_until_idle(0.1) and time.monotonic() < deadline:
                self._attempts.stop_all("drain")

    def _is_all_done(self) -> bool:
        """Whether no action runs here and none is left that the last worker of its job must do."""
        if not all(lane.slots.wait_until_idle(0.1) for lane in self._others):
            return False
        if self._visits is None:
            return True
        ids = [id for lane in self._others for id in lane.tag_set_ids]
        return not self._visits.leaves_actions(ids)

    def _leaving_wait(self) -> None:
        for lane in self._others:
            lane.wake()
        self._closed.wait(0.1)

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._presence.watch()
            self._ledger.sweep_connections()
            now = time.monotonic()
            for lane in self._lanes:
                lane.poll(now)
            self._closed.wait(WATCH_S)

    def _retire(self) -> None:
        worker_id = self._presence.worker_id
        if worker_id is None:
            return
        try:
            self._ledger.retire(worker_id)
        except OUTAGES as error:
            log.warning(
                "could not sign off (%s): this worker will be counted as lost", type(error).__name__
            )
        finally:
            self._ledger.released()


def likely_keys(tags: Iterable[str]) -> tuple[str, ...]:
    """Tag sets that steps may ask of this worker, to listen for before the first step exists."""
    known = sorted(set(tags))
    abilities = [tag for tag in known if tag in ABILITIES]
    others = [tag for tag in known if tag not in ABILITIES]
    sizes = range(min(2, len(others)) + 1) if len(others) > 3 else range(len(others) + 1)
    return tuple(
        tag_set_key((ability, *chosen))
        for ability in abilities
        for size in sizes
        for chosen in combinations(others, size)
    )


class Eviction:
    """The signals that tell this worker to leave. `is_group_told`: whether others of its processes
    got one too."""

    def __init__(self, *, by_slurm: bool = False) -> None:
        """`by_slurm`: in an allocation, such a signal always means that its processes end."""
        self.is_by_slurm = by_slurm
        self._told_at: float | None = None
        self._signs: selectors.BaseSelector | None = None
        self.is_group_told: Callable[[], bool] = lambda: False

    @property
    def is_told(self) -> bool:
        return self._told_at is not None

    @property
    def text(self) -> str:
        """What to tell people about steps that end for this."""
        return BY_SLURM if self.is_by_slurm else ""

    def note(self) -> None:
        """The signal has come. Takes no lock: signal handlers call it."""
        self._told_at = time.monotonic()

    def listen(self) -> None:
        """Notice signals that have no handler yet because the main thread still has to run. Call in
        the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._signs = selectors.DefaultSelector()
        for fd in (reading, *_pending_signs()):
            self._signs.register(fd, selectors.EVENT_READ)

    def _is_under_way(self) -> bool:
        """Whether the signal was sent: one system call, at the end of each process."""
        return self._signs is not None and bool(self._signs.select(0))

    def judge(
        self, outcome: StepOutcome, began_at: float, ended_at: float | None = None
    ) -> StepOutcome:
        """The outcome of a process of this host that began and ended then; by default, it has just
        ended."""
        if outcome.verdict not in (Verdict.SUCCEEDED, Verdict.FAILED):
            return outcome
        why = self.explain(began_at, outcome.exit_code, ended_at)
        return outcome if why is None else StepOutcome(Verdict.LOST, outcome.exit_code, why)

    def explain(
        self, began_at: float, exit_code: int | None, ended_at: float | None = None
    ) -> str | None:
        """Why a process that began and ended then did not end by itself; else None."""
        if self.is_by_slurm:
            # Slurm signals one process after the other: the worker's turn may come a moment later.
            ran_s = time.monotonic() - began_at
            moment_s = LONGEST_S if exit_code else min(max(ran_s * SHARE, SHORTEST_S), LONGEST_S)
            _wait_for(lambda: self.is_told, moment_s)
            return BY_SLURM if self._told_since(began_at) else None
        if exit_code in BY_SIGNAL:
            _wait_for(lambda: self.is_told, AROUND_S)
        elif not self.is_told and self._is_under_way():
            _wait_for(lambda: self.is_told, LONGEST_S)
        if not self._told_since(began_at):
            return None
        is_ours = exit_code in BY_SIGNAL or self._is_same_moment(began_at, ended_at)
        return TOGETHER if is_ours or _wait_for(self.is_group_told, AROUND_S) else None

    def _is_same_moment(self, began_at: float, ended_at: float | None) -> bool:
        """Whether the process ended too near to the signal for chance: one in fifty, however long
        it ran."""
        assert self._told_at is not None
        moment_s = min((self._told_at - began_at) * SHARE, AROUND_S)
        return abs((ended_at or time.monotonic()) - self._told_at) <= moment_s

    def _told_since(self, began_at: float) -> bool:
        return self._told_at is not None and began_at <= self._told_at


def _wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _pending_signs() -> tuple[int, ...]:
    """A descriptor that can be read while TERM or INT is pending; none where there is no such
    thing."""
    make = getattr(ctypes.CDLL(None), "signalfd", None)
    if make is None:
        return ()
    numbers = sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGINT))
    mask = (ctypes.c_ulong * (_SIGSET_BYTES // ctypes.sizeof(ctypes.c_ulong)))(numbers)
    fd = int(make(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK))
    return (fd,) if fd >= 0 else ()
