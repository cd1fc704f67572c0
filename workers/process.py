"""The worker: its lanes, their bells and polls, and its shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from engine.spec.tags import tag_set_key
from workers.attempts import Attempts, Reason, Stop
from workers.bells import Ear, Ringer
from workers.config import ABILITIES, WorkerConfig
from workers.door import OUTAGES, Bells, Ledger
from workers.lane import Lane
from workers.presence import Presence
from workers.reporting import LogPump
from workers.visits import Visits

log = logging.getLogger("stroem.worker")
WATCH_S = 0.25
EXIT_S = 9.0  # from the stop signals to the end, even if something hangs
LAST_WORD_S = 4.0  # for reporting, after the steps' grace period


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
