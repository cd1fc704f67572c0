"""A lane: slots that find one kind of work, do it, report it, and claim the next in the same call.

bell or poll -> look -> claim -> perform -> finish and claim the next -> ... until nothing is left,
the turn is over, or the lane is closed

Each slot has a tidier, which cleans up after a step while the slot waits for the database to take
the report: no slot waits while another's million files are removed. Where a look shows that there
is nothing to clean, the slot does without it.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Protocol
from uuid import UUID

from apps.jobs.ledger import Claim, Finished, TagSetRef
from engine.orders import Line
from workers.attempts import Attempt, Attempts, Presence, Slots, fields
from workers.bells import Ringer
from workers.door import OUTAGES, Ledger
from workers.execution import Performed
from workers.packing import Packing
from workers.reporting import Ended

log = logging.getLogger("stroem.worker")
TURN_S = 60.0  # how long a slot goes from attempt to attempt before it rings for others
POLL_S = 1.0
SLOW_POLL_S = 5.0
QUIET_S = 30.0  # without work, before polling slows down


class Sweep:
    """One cleanup. `begin` it when the slot only waits; `wait` before using what it gives back."""

    __slots__ = ("_has_begun", "_is_over", "_is_short", "_queue", "_work")

    def __init__(
        self, work: Callable[[], None], is_short: Callable[[], bool], queue: SimpleQueue[Sweep]
    ) -> None:
        self._work = work
        self._is_short = is_short
        self._queue = queue
        self._has_begun = False
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def begin(self) -> None:
        """Start it in the other thread, or do it here if that is shorter than waking it. Further
        calls do nothing."""
        if self._has_begun:
            return
        self._has_begun = True
        if self._is_short():
            self.do()
        else:
            self._queue.put(self)

    def do(self) -> None:
        try:
            self._work()
        except Exception:
            log.exception("cleaning up after a step failed")
        finally:
            self._is_over.release()

    def wait(self) -> None:
        self.begin()
        with self._is_over:
            return


class Tidiers(threading.local):
    """One daemon thread for each calling thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Sweep] | None = None

    def sweep(
        self, work: Callable[[], None], is_short: Callable[[], bool] = lambda: False
    ) -> Sweep:
        """Prepare `work` to run in the tidier's thread; in the caller's if `is_short`, which must
        not raise."""
        if self._queue is None:
            self._queue = SimpleQueue()
            threading.Thread(target=_serve, args=(self._queue,), name="tidier", daemon=True).start()
        return Sweep(work, is_short, self._queue)


def _serve(queue: SimpleQueue[Sweep]) -> None:
    while True:
        queue.get().do()


class Performer(Protocol):
    """Performs the lane's attempts."""

    def perform(self, attempt: Attempt) -> Performed:
        """Do the attempt to its end. Raises one of OUTAGES only while its process cannot exist."""

    def tidy(self, attempt: Attempt, performed: Performed) -> None:
        """Give back what the attempt occupied."""


@dataclass(frozen=True, slots=True)
class Crew:
    """What the lanes of a worker share."""

    ledger: Ledger
    presence: Presence
    attempts: Attempts
    ringer: Ringer
    lease_s: float
    job_id: UUID | None = None  # serve this job only


class Lane:
    """One kind of work in its own slots, so that no other kind waits for it."""

    def __init__(
        self,
        crew: Crew,
        slots: Slots,
        performer: Performer,
        covered: Callable[[], Collection[TagSetRef]],
        *,
        packing: Packing | None = None,
        slow_poll_s: float = SLOW_POLL_S,
        before_look: Callable[[], None] = lambda: None,
        expected: Collection[object] = (),
    ) -> None:
        """`covered` returns the lane's tag sets. With `packing`, the lane takes only what fits.
        While there is something in `expected`, `before_look` is called in the slot before each
        look, and polling does not slow down."""
        self.slots = slots
        self._crew = crew
        self._ledger = crew.ledger
        self._performer = performer
        self._covered = covered
        self._packing = packing
        self._slow_poll_s = slow_poll_s
        self._before_look = before_look
        self._expected = expected
        self._tidiers = Tidiers()
        self._tag_sets: dict[str, int] = {}
        self._is_open = False
        self._only_bound = False
        self._last_work = time.monotonic()
        self._polls_at = 0.0  # at once: work may have been waiting for a worker

    @property
    def keys(self) -> Collection[str]:
        """The tag sets that the lane serves."""
        return self._tag_sets.keys()

    @property
    def tag_set_ids(self) -> Collection[int]:
        return self._tag_sets.values()

    def open(self) -> None:
        self._is_open = True

    def narrow(self) -> None:
        """Take only work that no other worker may do."""
        self._only_bound = True

    def close(self) -> None:
        """Claim nothing more."""
        self._is_open = False

    def refresh(self) -> None:
        """Read again which tag sets this lane covers."""
        self._tag_sets = {ref.key: ref.id for ref in self._covered()}

    def poll(self, now: float) -> None:
        """Look for work without a bell, if the next poll is due."""
        if now < self._polls_at:
            return
        self.wake()
        is_quiet = now - self._last_work > QUIET_S and not self._expected
        pause_s = self._slow_poll_s if is_quiet else min(POLL_S, self._slow_poll_s)
        self._polls_at = now + pause_s * random.uniform(0.8, 1.2)

    def wake(self) -> None:
        """Look for work now, if a slot is free."""
        if self._may_claim() and self.slots.free:
            self.slots.offer(self.look)

    def look(self, *, wakes_next: bool = True) -> None:
        """Claim and do work until there is none; in a slot's thread.

        `wakes_next`: the number of ready attempts is unknown, so if there is another one, wake
        another slot.
        """
        try:
            if self._expected:
                self._before_look()
            if (claimed := self._claim()) is not None and not self._is_open:
                self._give_back(claimed[0])  # closed meanwhile
            elif claimed is not None:
                # packing asks set by set
                if wakes_next and (claimed[0].is_more or self._packing is not None):
                    self._wake_one(claimed[0].tag_set_id)
                self._work(*claimed)
        except OUTAGES as error:
            log.debug("looking for work: %s", type(error).__name__)
        finally:
            self._ledger.released()

    def _give_back(self, claim: Claim) -> None:
        self._ledger.give_back(claim)
        if self._packing is not None:
            self._packing.give_back(claim.attempt_id)

    def _may_claim(self) -> bool:
        return self._is_open and self._crew.presence.may_claim

    def _claim(self) -> tuple[Claim, float] | None:
        worker_id = self._crew.presence.worker_id
        if worker_id is None or not self._tag_sets or not self._may_claim():
            return None
        asked_at = time.monotonic()
        if self._packing is not None:
            claim = self._packing.claim(self._tag_sets, partial(self._claim_of, worker_id))
        else:
            claim = self._ledger.claim(
                worker_id,
                tuple(self._tag_sets.values()),
                job_id=self._crew.job_id,
                only_bound=self._only_bound,
            )
        return None if claim is None else (claim, asked_at)

    def _claim_of(self, worker_id: UUID, tag_set_id: int) -> Claim | None:
        return self._ledger.claim(worker_id, (tag_set_id,), job_id=self._crew.job_id)

    def _work(self, claim: Claim, asked_at: float) -> None:
        """Do one attempt after another until nothing is ready or the turn is over."""
        turn_ends = asked_at + TURN_S
        following: Claim | None = claim
        while following is not None:
            self._last_work = asked_at
            settled, asked_at = self._do(following, asked_at, turn_ends)
            if settled is None or asked_at >= turn_ends:
                # Given back, lost, or the turn is over: let other slots and workers look.
                self._crew.ringer.ring(self._keys_of(following.tag_set_id))
            following = None if settled is None else settled.next
            if following is None and settled is not None and asked_at < turn_ends:
                following = self._next_that_fits()

    def _do(self, claim: Claim, asked_at: float, turn_ends: float) -> tuple[Finished | None, float]:
        """Do one attempt. Returns the answer to its report (None if not reported) and its time."""
        attempts, packing = self._crew.attempts, self._packing
        gpus = packing.gpus_of(claim.attempt_id) if packing is not None else ()
        attempt = attempts.open(claim, asked_at, gpus)
        if log.isEnabledFor(logging.INFO):  # the fields cost more than the question
            log.info("claimed", extra=fields(claim))
        settled = sweep = None
        try:
            performed = self._perform(attempt)
            asked_at = time.monotonic()
            if performed is not None:
                sweep = self._tidiers.sweep(
                    partial(self._performer.tidy, attempt, performed), performed.is_untouched
                )
                if performed.ended is not None:
                    may_go_on = asked_at < turn_ends
                    settled = self._finish(attempt, performed.ended, sweep, may_go_on=may_go_on)
        finally:
            attempts.close(attempt)
            if packing is not None:
                packing.give_back(claim.attempt_id)
            if sweep is not None:
                sweep.wait()  # so that the next step can reuse the working tree
        return settled, asked_at

    def _next_that_fits(self) -> Claim | None:
        """Claim again now that resources are free, and wake a slot: more may fit."""
        claimed = self._claim() if self._packing is not None else None
        if claimed is None:
            return None
        self._wake_one(claimed[0].tag_set_id)
        return claimed[0]

    def _perform(self, attempt: Attempt) -> Performed | None:
        """Do the attempt, waiting for the database if it is away before the process starts. None
        if the attempt was stopped meanwhile."""
        pause_s = 0.1
        while attempt.stop.reason not in ("lost", "drain"):
            try:
                return self._performer.perform(attempt)
            except OUTAGES as error:
                log.warning(
                    "waiting for the database (%s); nothing has started",
                    type(error).__name__,
                    extra=fields(attempt.claim),
                )
                self._ledger.released()
            time.sleep(pause_s)
            pause_s = min(2.0, pause_s * 2)
        return None

    def _finish(
        self, attempt: Attempt, ended: Ended, sweep: Sweep, *, may_go_on: bool
    ) -> Finished | None:
        """Report, retrying while the database is away and the lease lasts. None if that failed."""
        pause_s, outcome = 0.1, ended.report.outcome
        while True:
            try:
                settled = self._report(attempt, ended, sweep, may_go_on=may_go_on)
            except OUTAGES as error:
                self._ledger.released()
                if time.monotonic() - attempt.renewed_at > self._crew.lease_s:
                    log.error(
                        "could not report its end (%s) before its lease ran out (%s): check the"
                        " connection to the database; the attempt counts as lost",
                        outcome.verdict,
                        type(error).__name__,
                        extra=fields(attempt.claim),
                    )
                    return None
                time.sleep(pause_s)
                pause_s = min(2.0, pause_s * 2)
                continue
            if settled.accepted:
                if log.isEnabledFor(logging.INFO):
                    log.info("finished", extra=_finished(attempt, ended))
            else:
                log.warning(
                    "its end was reported too late to count: the attempt was already lost or ended",
                    extra=fields(attempt.claim),
                )
            self._spread(settled.bells)
            return settled

    def _report(self, attempt: Attempt, ended: Ended, sweep: Sweep, *, may_go_on: bool) -> Finished:
        seq: int = 0
        lines: tuple[Line, ...] = ()
        if ended.batches:
            *earlier, (seq, lines) = ended.batches
            for number, batch in earlier:
                self._ledger.append(attempt.claim, number, batch)
        worker_id = self._crew.presence.worker_id
        goes_on = (
            may_go_on
            and worker_id is not None
            and self._may_claim()
            and self._packing is None
            and not self._only_bound
        )
        return self._ledger.finish(
            ended.report,
            claim_for=tuple(self._tag_sets.values()) if goes_on else (),
            worker_id=worker_id,
            lines=lines,
            seq=seq,
            job_id=self._crew.job_id,
            meanwhile=sweep.begin,
        )

    def _spread(self, bells: Mapping[str, int]) -> None:
        """More became ready: wake our own free slots first, then other workers."""
        counted, left = partial(self.look, wakes_next=False), {}
        for key, count in bells.items():
            while (
                count > 0 and key in self._tag_sets and self._is_open and self.slots.offer(counted)
            ):
                count -= 1
            if count > 0:
                left[key] = 1  # the worker that hears it wakes the next one if there is more
        self._crew.ringer.ring(left)

    def _wake_one(self, tag_set_id: int) -> None:
        """Wake one of our slots, or else another worker's."""
        if not self.slots.offer(self.look):
            self._crew.ringer.ring(self._keys_of(tag_set_id))

    def _keys_of(self, tag_set_id: int) -> dict[str, int]:
        return {key: 1 for key, id in self._tag_sets.items() if id == tag_set_id}


def _finished(attempt: Attempt, ended: Ended) -> dict[str, object]:
    outcome = ended.report.outcome
    return fields(
        attempt.claim,
        status=outcome.verdict.value,
        exit_code=outcome.exit_code,
        duration_s=round(time.monotonic() - attempt.begun_at, 3),
    )
