"""When a worker leaves its allocation, and how."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from workers import slurm
from workers.allocation import AllocationPlace
from workers.attempts import Attempts, Reason
from workers.config import WorkerConfig
from workers.door import OUTAGES, Ledger, VisitLedger
from workers.packing import Packing
from workers.process import Eviction

log = logging.getLogger("stroem.worker")
LOOK_EVERY_S = 1.0
RESERVE_S = 5.0  # of an allocation's time, for reporting steps that were killed
KILL_WAIT_S = 15.0  # for steps, after Slurm's TERM: its KILL comes 30 s after that by default
# at most, for actions on leaving the job; they have their own time-outs
LEAVING_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Departure:
    """How a worker leaves; the arguments of `Worker.drain`."""

    wait_s: float
    leave_by: float | None = None
    reason: Reason = "drain"
    text: str = ""
    grace_s: float | None = None


class Leaver(threading.Thread):
    """Ends the worker when its job has ended, no step is left that could run here, or the
    allocation's time is over."""

    def __init__(
        self, ledger: Ledger, visits: VisitLedger, config: WorkerConfig, place: AllocationPlace,
        job_id: UUID, worker_id: Callable[[], UUID | None],
        attempts: Attempts, leave: Callable[[], None], eviction: Eviction,
        packing: Packing | None = None,
    ) -> None:  # fmt: skip
        super().__init__(name="leaver", daemon=True)
        self._ledger = ledger
        self._visits = visits
        self._config = config
        self._place = place
        self._job_id = job_id
        self._worker_id = worker_id
        self._attempts = attempts
        self._leave = leave
        self._eviction = eviction
        self._packing = packing
        self._lead_s = lead_s(config, place)
        self._is_done = False
        self._is_over = False

    @property
    def departure(self) -> Departure:
        """How to leave now."""
        now, left_s = time.monotonic(), self._place.left_s
        if self._is_done:
            return Departure(0.0, now + max(0.0, min(LEAVING_S, left_s - RESERVE_S)))
        if self._is_over and not self._eviction.is_told:
            grace_s = max(0.0, left_s - RESERVE_S)
            return Departure(0.0, now + left_s, "walltime", self._walltime_ended(), grace_s)
        wait_s = min(KILL_WAIT_S, self._config.drain_secs)
        text = self._eviction.text
        if left_s <= 0:
            text = self._walltime_ended()
        return Departure(wait_s, now + wait_s + KILL_WAIT_S / 3, text=text)

    def run(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            if self._place.left_s < self._lead_s and self._is_time_over():
                log.info("the time of this allocation is over")
                self._is_over = True
                self._leave()
                return
            try:
                if not self._attempts.all() and not self._is_needed():
                    log.info("nothing is left to do in this allocation")
                    self._is_done = True
                    self._leave()
                    return
            except OUTAGES as error:
                log.debug("asking whether to stay: %s", type(error).__name__)
            finally:
                self._visits.released()

    def _is_time_over(self) -> bool:
        """Ask Slurm once more: its administrators may have given the job more time."""
        if not self._place.number:
            return True
        try:
            left_s, walltime_s = slurm.times_of(self._place.number)
        except slurm.SlurmError as error:
            log.debug("asking for the time that is left: %s", error)
            return True
        if left_s is None or left_s < self._lead_s:
            return True
        self._place = replace(self._place, ends_at=time.time() + left_s, walltime_s=walltime_s)
        if self._packing is not None:
            self._packing.ends_at = self._place.ends_at
        return False

    def _walltime_ended(self) -> str:
        given = self._place.walltime_s
        of = f" of {_clock(given)}" if given else ""
        return (
            f"The walltime{of} of its allocation ended; the step was told to end"
            f" {self._lead_s:g} s before"
        )

    def _is_needed(self) -> bool:
        refs = [
            ref for ref in self._ledger.covered(self._config.tags) if self._place.serves(ref.key)
        ]
        fits = self._packing.could_fit if self._packing else lambda key: True
        ids = [ref.id for ref in refs if fits(ref.key)]
        worker_id = self._worker_id()
        if self._visits.is_needed(self._job_id, ids, worker_id):
            return True
        actions = [ref.id for ref in self._ledger.covered_actions(self._config.tags)]
        return worker_id is not None and self._visits.leaves_actions(
            self._job_id, worker_id, actions
        )


def steps_grace_s(config: WorkerConfig, place: AllocationPlace) -> float:
    """What steps have from TERM to KILL when the allocation's time is over."""
    return max(0.0, lead_s(config, place) - RESERVE_S)


def lead_s(config: WorkerConfig, place: AllocationPlace) -> float:
    """How long before the allocation's end its steps are told to end: at most half of its time."""
    half_s = (place.walltime_s or float("inf")) / 2
    return min(config.walltime_lead_secs, half_s)


def _clock(seconds: float) -> str:
    """As Slurm writes it: 01:30:00."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{left:02}"
