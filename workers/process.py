"""The worker: slots that look for work, do it, report it, and take the next piece with the same
call.

bell or poll -> look -> claim -> perform -> finish and claim the next -> ... -> nothing left, a
minute over, or draining
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import combinations
from typing import Any
from uuid import UUID

from apps.jobs.ledger import Claim, Settled
from engine.orders import Line
from engine.spec.tags import ACTIONS, action_keys, tag_set_key
from workers import tasks
from workers.actions import Actions
from workers.attempts import Attempt, Attempts
from workers.broom import Brooms, Sweep
from workers.config import ABILITIES, WorkerConfig
from workers.consumer import Ear
from workers.door import OUTAGES, Bells, Ledger
from workers.execution import Ended, Execution, Performed
from workers.packing import Packing
from workers.presence import Presence
from workers.reporting import LogPump
from workers.ringing import Ringer
from workers.slots import Slots

log = logging.getLogger("stroem.worker")
TURN_S = 60.0  # how long a slot goes from step to step before it lets others have a bell
POLL_S = 1.0
SLOW_POLL_S = 5.0
QUIET_S = 30.0  # of nothing, before polling slows down
WATCH_S = 0.25
EXIT_S = 9.0  # from the stop signals to the end, whatever hangs
LAST_WORD_S = 4.0  # for reporting, beyond the grace of the steps


class Worker:
    """One worker process's work. `start`, then `drain`; what a step needs is in the parts that it
    is given."""

    def __init__(
        self,
        config: WorkerConfig,
        ledger: Ledger,
        bells: Bells,
        app: Any,
        presence: Presence,
        execution: Execution,
        attempts: Attempts,
        slots: Slots,
        pump: LogPump,
        *,
        lease_s: float,
        job_id: UUID | None = None,
        actions: Actions | None = None,
        packing: Packing | None = None,
        serves: Callable[[str], bool] = lambda key: True,
    ) -> None:
        """`job_id`: serve this job only. `packing`: take only steps that fit into what is free.
        `serves` says of a tag set that the worker's tags cover whether it is for this worker."""
        self._lease_s = lease_s
        self._config = config
        self._ledger = ledger
        self._presence = presence
        self._execution = execution
        self._attempts = attempts
        self._slots = slots
        self._brooms = Brooms()
        self._pump = pump
        self._job_id = job_id
        self._actions = actions
        self._packing = packing
        self._serves = serves
        self._ringer = Ringer(bells)
        self._ear = Ear(
            app, bells, slots, likely_keys(config.tags), name=f"{config.worker_name}@stroem"
        )
        self._tag_sets: dict[str, int] = {}
        self._is_open = False
        self._closed = threading.Event()
        self._last_work = time.monotonic()
        self._poller = threading.Thread(target=self._poll, name="poller", daemon=True)

    @property
    def queues(self) -> tuple[str, ...]:
        """Tag sets of steps that this worker listens for."""
        return tuple(key for key in self._ear.keys if not key.startswith(ACTIONS))

    @property
    def is_listening(self) -> bool:
        """Whether a broker is connected; polling goes on without."""
        return self._ear.is_listening

    def start(self) -> None:
        """Take steps from now on. The presence must be registered."""
        self._is_open = True
        self._ledger.linger(True)
        self.refresh_tag_sets()
        tasks.listen(self.look)
        for thread in (self._pump, self._ringer, self._presence, self._poller):
            thread.start()
        if self._actions is not None:
            self._actions.start()
        self._ear.start()

    def drain(self, wait_s: float, hurry: threading.Event, leaving_s: float | None = None) -> int:
        """Take no more steps, give running ones `wait_s` (until `hurry` is set), stop the rest.
        Answers how many.

        `leaving_s`: for what leaving a job sets off, if not `drain_secs`.
        """
        self._is_open = False
        self._closed.set()
        deadline = time.monotonic() + wait_s
        while len(self._attempts) and time.monotonic() < deadline and not hurry.is_set():
            self._attempts.wait_until_none(min(0.1, max(0.0, deadline - time.monotonic())))
        stopped = self._attempts.stop_all("drain")
        self._ear.close()
        if not self._attempts.wait_until_none(
            min(EXIT_S, self._config.stop_grace_secs + LAST_WORD_S)
        ):
            log.warning("%d steps would not end in time; their leases run out", len(self._attempts))
        if self._actions is not None:
            patience_s = self._config.drain_secs if leaving_s is None else leaving_s
            self._actions.close(0.0 if hurry.is_set() else patience_s)
        self._presence.close()
        self._ringer.close()
        self._pump.close()
        self._retire()
        self._ledger.linger(False)
        return stopped

    def look(self, key: str | None = None, *, wakes_next: bool = True) -> None:
        """Find work and do it until there is none; in a slot's thread. `key` is the tag set that a
        bell named. `wakes_next`: nobody has counted the steps that are ready, so where there is one
        more, one more is woken."""
        try:
            if key is not None and key.startswith(ACTIONS):
                if self._actions is not None:
                    self._actions.wake()
                return
            if key is not None and key not in self._tag_sets and self._may_claim():
                self.refresh_tag_sets()
            if (claimed := self._claim()) is not None:
                # packing asks set by set
                if wakes_next and (claimed[0].is_more or self._packing is not None):
                    self._wake_one(claimed[0].tag_set_id)
                self._work(*claimed)
            elif self._actions is not None:
                self._actions.wake()
        except OUTAGES as error:
            log.debug("looking for work: %s", type(error).__name__)
        finally:
            self._ledger.released()

    def refresh_tag_sets(self) -> None:
        """Read which tag sets this worker covers, and listen for new ones."""
        covered = self._ledger.covered(self._config.tags)
        self._tag_sets = {ref.key: ref.id for ref in covered if self._serves(ref.key)}
        of_actions = () if self._actions is None else action_keys(self._config.tags)
        self._ear.add((*self._tag_sets, *of_actions))

    def _may_claim(self) -> bool:
        return self._is_open and self._presence.may_claim

    def _claim(self) -> tuple[Claim, float] | None:
        worker_id = self._presence.worker_id
        if worker_id is None or not self._tag_sets or not self._may_claim():
            return None
        asked_at = time.monotonic()
        if self._packing is not None:
            claim = self._claim_what_fits(worker_id, self._packing)
        else:
            claim = self._ledger.claim(
                worker_id, tuple(self._tag_sets.values()), job_id=self._job_id
            )
        return None if claim is None else (claim, asked_at)

    def _claim_what_fits(self, worker_id: UUID, packing: Packing) -> Claim | None:
        """The step that needs most of those for which there is room."""
        with packing.lock:
            keys = {id: key for key, id in self._tag_sets.items()}
            for tag_set_id in packing.in_order(self._tag_sets):
                claim = self._ledger.claim(worker_id, (tag_set_id,), job_id=self._job_id)
                if claim is not None:
                    packing.take(claim.attempt_id, keys[tag_set_id])
                    return claim
        return None

    def _environment(self, claim: Claim) -> Mapping[str, str]:
        return self._packing.environment(claim.attempt_id) if self._packing is not None else {}

    def _work(self, claim: Claim, asked_at: float) -> None:
        """From step to step, until nothing is ready or the turn is over."""
        turn_ends = asked_at + TURN_S
        following: Claim | None = claim
        while following is not None:
            self._last_work = asked_at
            attempt = self._attempts.open(following, asked_at, self._environment(following))
            performed = settled = sweep = None
            try:
                performed = self._perform(attempt)
                asked_at = time.monotonic()
                if performed is not None:
                    sweep = self._brooms.sweep(partial(self._execution.tidy, attempt, performed))
                    if performed.ended is not None:
                        settled = self._finish(
                            attempt, performed.ended, sweep, may_go_on=asked_at < turn_ends
                        )
            finally:
                self._attempts.close(attempt)
                if self._packing is not None:
                    self._packing.give_back(attempt.claim.attempt_id)
                if sweep is not None:
                    sweep.wait()  # or the next step would need a tree of its own
            if settled is None or asked_at >= turn_ends:
                # Given back, lost, or the turn is over: what is ready is for whoever hears this.
                self._ringer.ring(self._keys_of(following.tag_set_id))
            following = None if settled is None else settled.next
            if (
                following is None
                and settled is not None
                and self._packing is not None
                and asked_at < turn_ends
            ):
                claimed = self._claim()  # only now it is known how much room there is
                following = claimed[0] if claimed else None
                if following is not None:
                    self._wake_one(following.tag_set_id)  # there may be room for more than one

    def _perform(self, attempt: Attempt) -> Performed | None:
        """Do the attempt; while no process exists, a database that is away is waited for. None when
        it was given up."""
        pause_s = 0.1
        while attempt.stop.reason not in ("lost", "drain"):
            try:
                return self._execution.perform(attempt)
            except OUTAGES as error:
                log.warning(
                    "step %s waits for the database: %s",
                    attempt.claim.step_name,
                    type(error).__name__,
                )
                self._ledger.released()
            time.sleep(pause_s)
            pause_s = min(2.0, pause_s * 2)
        return None

    def _finish(
        self, attempt: Attempt, ended: Ended, sweep: Sweep, *, may_go_on: bool
    ) -> Settled | None:
        """Report, again and again while the database is away and the lease lasts. None when nobody
        could be told."""
        pause_s = 0.1
        while True:
            try:
                settled = self._report(attempt, ended, sweep, may_go_on=may_go_on)
            except OUTAGES as error:
                self._ledger.released()
                if time.monotonic() - attempt.renewed_at > self._lease_s:
                    log.error(
                        "the end of step %s of job %s (%s) could not be reported in time: %s",
                        attempt.claim.step_name,
                        attempt.claim.job_id,
                        ended.report.outcome.verdict,
                        type(error).__name__,
                    )
                    return None
                time.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
                continue
            if not settled.accepted:
                log.warning(
                    "step %s of job %s ended too late to count",
                    attempt.claim.step_name,
                    attempt.claim.job_id,
                )
            self._spread(settled.bells)
            return settled

    def _report(self, attempt: Attempt, ended: Ended, sweep: Sweep, *, may_go_on: bool) -> Settled:
        seq: int = 0
        lines: tuple[Line, ...] = ()
        if ended.batches:
            *earlier, (seq, lines) = ended.batches
            for number, batch in earlier:
                self._ledger.append(attempt.claim, number, batch)
        worker_id = self._presence.worker_id
        goes_on = (
            may_go_on and worker_id is not None and self._may_claim() and self._packing is None
        )
        return self._ledger.finish(
            ended.report,
            claim_for=tuple(self._tag_sets.values()) if goes_on else (),
            worker_id=worker_id,
            lines=lines,
            seq=seq,
            job_id=self._job_id,
            meanwhile=sweep.begin,
        )

    def _spread(self, bells: Mapping[str, int]) -> None:
        """Steps became ready: first for our own free slots, then for others."""
        counted, left = partial(self.look, wakes_next=False), {}
        for key, count in bells.items():
            while (
                count > 0 and key in self._tag_sets and self._is_open and self._slots.offer(counted)
            ):
                count -= 1
            if count > 0:
                left[key] = 1  # whoever hears it wakes the next where there is more
        self._ringer.ring(left)

    def _wake_one(self, tag_set_id: int) -> None:
        """Wake a slot of ours, else somebody else's."""
        if not self._slots.offer(self.look):
            self._ringer.ring(self._keys_of(tag_set_id))

    def _keys_of(self, tag_set_id: int) -> dict[str, int]:
        return {key: 1 for key, id in self._tag_sets.items() if id == tag_set_id}

    def _poll(self) -> None:
        next_at = 0.0  # at once: steps may have been waiting for a worker
        while not self._closed.is_set():
            self._presence.watch()
            self._ledger.sweep_connections()
            now = time.monotonic()
            if now >= next_at:
                if self._may_claim() and self._slots.free:
                    self._slots.offer(self.look)
                next_at = now + self._poll_interval(now) * random.uniform(0.8, 1.2)
            self._closed.wait(WATCH_S)

    def _poll_interval(self, now: float) -> float:
        slow_s = self._config.poll_interval_secs or SLOW_POLL_S
        return slow_s if now - self._last_work > QUIET_S else min(POLL_S, slow_s)

    def _retire(self) -> None:
        worker_id = self._presence.worker_id
        if worker_id is None:
            return
        try:
            self._ledger.retire(worker_id)
        except OUTAGES as error:
            log.warning("could not sign off: %s", type(error).__name__)
        finally:
            self._ledger.released()


def likely_keys(tags: Iterable[str]) -> tuple[str, ...]:
    """Tag sets that steps for this worker may ask for: listened for before the first of them
    exists."""
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
