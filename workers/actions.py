"""Workflow actions on this worker: taken and done beside its steps, in threads of their own, never
in their place."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from uuid import UUID

from apps.jobs.ledger import ActionMaterial, Report
from engine.masking import masker
from engine.orders import StepOutcome, Verdict
from workers.attempts import Attempt, Attempts
from workers.commands import Commands
from workers.door import OUTAGES, Ledger
from workers.presence import Presence, Timing
from workers.reporting import LogPump, Reporter
from workers.visits import Visits

log = logging.getLogger("stroem.worker")
MOST = 8  # actions at a time
POLL_S = 1.0
SLOW_POLL_S = 5.0
QUIET_S = 30.0
RHYTHM_S = 0.25  # while something is in hand


class Actions(threading.Thread):
    """Looks for actions, keeps their leases, and looks after the visits that set some off."""

    def __init__(
        self,
        ledger: Ledger,
        running: Attempts,
        commands: Commands,
        visits: Visits,
        presence: Presence,
        attempts: Attempts,
        timing: Timing,
        *,
        tags: tuple[str, ...],
        job_id: UUID | None = None,
    ) -> None:
        super().__init__(name="actions", daemon=True)
        self._ledger = ledger
        self._commands = commands
        self._visits = visits
        self._presence = presence
        self._attempts = attempts
        self._timing = timing
        self._tags = tags
        self._job_id = job_id
        self._pump = LogPump(ledger.append, ledger.released)
        self._running = running
        self._wake = threading.Event()
        self._is_closed = False
        self._is_draining = False
        self._tag_sets: tuple[int, ...] | None = None
        self._last_work = time.monotonic()
        visits.wake = self.wake

    @property
    def visits(self) -> Visits:
        return self._visits

    def names(self) -> frozenset[str]:
        """What marks the processes of the runs in hand."""
        return self._running.names()

    def wake(self) -> None:
        """Look for actions now: something may have been set off."""
        self._wake.set()

    def start(self) -> None:
        self._pump.start()
        super().start()

    def close(self, wait_s: float) -> None:
        """Take nothing more but what leaving the jobs sets off; end what runs after `wait_s`
        seconds."""
        self._is_draining = True
        deadline = time.monotonic() + wait_s
        self._visits.close(wait_s)
        self._running.wait_until_none(max(0.0, deadline - time.monotonic()))
        self._running.stop_all("drain")
        self._running.wait_until_none(10.0)
        self._is_closed = True
        self._wake.set()
        self._pump.close()

    def run(self) -> None:
        while not self._is_closed:
            self._wake.wait(self._pause_s())
            self._wake.clear()
            try:
                self._turn()
            except OUTAGES as error:
                log.debug("looking for actions: %s", type(error).__name__)
            except Exception:
                log.exception("actions could not be looked for")
            finally:
                self._ledger.released()

    def _pause_s(self) -> float:
        if len(self._running) or self._visits.is_leaving:
            return RHYTHM_S
        quiet = time.monotonic() - self._last_work > QUIET_S and not self._visits.is_any
        return (SLOW_POLL_S if quiet else POLL_S) * random.uniform(0.8, 1.2)

    def _turn(self) -> None:
        if not self._is_draining:
            self._visits.look_after(self._is_busy)
        worker_id = self._presence.worker_id
        if worker_id is None or not self._presence.may_claim:
            return
        if self._tag_sets is None:
            self._tag_sets = tuple(ref.id for ref in self._ledger.covered_actions(self._tags))
        while self._tag_sets and len(self._running) < MOST and self._take(worker_id):
            continue

    def _is_busy(self, job_id: UUID) -> bool:
        return any(attempt.claim.job_id == job_id for attempt in self._attempts.all())

    def _take(self, worker_id: UUID) -> bool:
        asked_at = time.monotonic()
        claim = self._ledger.claim(
            worker_id, self._tag_sets or (), job_id=self._job_id, only_bound=self._is_draining
        )
        if claim is None:
            return False
        self._last_work = asked_at
        running = self._running.open(claim, asked_at)
        running.progress = 0
        threading.Thread(
            target=self._do, args=(running,), name=f"action-{claim.step_id}", daemon=True
        ).start()
        return True

    def _do(self, running: Attempt) -> None:
        claim = running.claim
        masks: tuple[str, ...] = ()
        reporter = Reporter(claim, masker(masks), self._pump)
        try:
            material = self._material(running)
            masks = material.masks
            reporter = Reporter(claim, masker(masks), self._pump)
            outcome = self._commands.perform(
                claim, material, running.stop, reporter, self._counter(running)
            )
        except Exception as error:
            log.exception("action %s of job %s failed in this worker", claim.label, claim.job_id)
            text = (
                f"The worker failed while doing this action ({type(error).__name__}); its log says"
                " more"
            )
            outcome = StepOutcome(Verdict.FAILED, error=text)
        finally:
            self._ledger.released()
        try:
            self._finish(running, reporter, outcome, masks)
        finally:
            self._running.close(running)
            self._ledger.released()
            self._wake.set()

    def _material(self, running: Attempt) -> ActionMaterial:
        """What doing the action needs; a database that is away is waited for."""
        while True:
            try:
                material = self._ledger.material(running.claim)
            except OUTAGES:
                self._ledger.released()
                if running.stop.wait(0.5):
                    raise
                continue
            assert isinstance(material, ActionMaterial)
            return material

    def _counter(self, running: Attempt) -> Callable[[], None]:
        def count() -> None:
            running.progress = (running.progress or 0) + 1

        return count

    def _finish(
        self, running: Attempt, reporter: Reporter, outcome: StepOutcome, masks: tuple[str, ...]
    ) -> None:
        """Report, again and again while the database is away and the lease lasts."""
        claim, batches, pause_s = running.claim, list(reporter.close()), 0.1
        while time.monotonic() - running.renewed_at < self._timing.lease_s:
            try:
                while batches:
                    self._ledger.append(claim, *batches[0])
                    batches.pop(0)
                report = Report(claim, outcome, masks=masks, progress=running.progress)
                if not self._ledger.finish(report).accepted:
                    log.warning(
                        "action %s of job %s ended too late to count", claim.label, claim.job_id
                    )
                return
            except OUTAGES:
                self._ledger.released()
                time.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
        log.error(
            "the end of action %s of job %s could not be reported in time",
            claim.label,
            claim.job_id,
        )
