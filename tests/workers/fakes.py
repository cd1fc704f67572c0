"""A ledger in memory with the door's functions, and runners that do as they are told."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from django.db import OperationalError

from apps.jobs.ledger import Claim, Finished, Material, Renewal, Report, TagSetRef
from engine.orders import Line, StepOrder, StepOutcome, Verdict
from engine.spec.model import Action, Step

DIGEST = "cd" * 32


def claim(
    number: int = 1, *, name: str = "build", timeout_s: float | None = None, tag_set_id: int = 1
) -> Claim:
    return Claim(
        step_id=number,
        attempt_id=1000 + number,
        fence=1,
        job_id=UUID(int=number),
        step_name=name,
        base=name,
        task_name="ship",
        workspace="default",
        revision_id=1,
        revision_digest=DIGEST,
        blueprint_id=1,
        number=1,
        timeout_s=timeout_s,
        tag_set_id=tag_set_id,
    )


def material(action: Action | None = None, step: Step | None = None, **values: Any) -> Material:
    given: dict[str, Any] = {
        "job_input": {},
        "outputs": {},
        "secrets": {},
        "connections": {},
        "each": None,
        "environment": {},
        **values,
    }
    return Material(
        action=action or Action(type="script", script="true"),
        step=step or Step(action="build"),
        **given,
    )


class FakeLedger:
    """Hands out the claims of `ready` in order; remembers what it was told. `fail` makes the next
    calls an outage."""

    def __init__(self, *ready: Claim) -> None:
        self.ready: deque[Claim] = deque(ready)
        self.materials: dict[int, Material] = {}
        self.material_of: Callable[[Claim], Material] = lambda claim: self.materials.get(
            claim.step_id, material()
        )
        self.tag_sets: list[TagSetRef] = [TagSetRef(1, "script")]
        self.action_tag_sets: list[TagSetRef] = []
        self.reports: list[Report] = []
        self.batches: dict[tuple[int, int], tuple[Line, ...]] = {}
        self.started_inputs: dict[int, Any] = {}
        self.given_back: list[Claim] = []
        self.retired: list[UUID] = []
        self.calls: list[str] = []
        self.cancelled: set[int] = set()
        self.lost: set[int] = set()
        self.is_known = True
        self.is_ours = True
        self.problem: str | None = None
        self.bells: dict[str, int] = {}
        self.outages: dict[str, int] = {}
        self.delay_s = 0.0
        self.changed = threading.Condition()
        self.clock = itertools.count()

    def _enter(self, name: str) -> None:
        with self.changed:
            self.calls.append(name)
            self.changed.notify_all()
            if self.outages.get(name, self.outages.get("*", 0)):
                key = name if name in self.outages else "*"
                self.outages[key] -= 1
                raise OperationalError("connection refused")

    def _done(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), "did not happen in time"

    def register(self, **values: Any) -> UUID:
        self._enter("register")
        return uuid4()

    def covered(self, tags: Any) -> tuple[TagSetRef, ...]:
        self._enter("covered")
        return tuple(ref for ref in self.tag_sets if set(ref.key.split("+")) <= set(tags))

    def covered_actions(self, tags: Any) -> tuple[TagSetRef, ...]:
        return tuple(self.action_tag_sets)

    def claim(
        self,
        worker_id: UUID,
        tag_set_ids: Sequence[int],
        *,
        job_id: UUID | None = None,
        only_bound: bool = False,
    ) -> Claim | None:
        self._enter("claim")
        time.sleep(self.delay_s)
        found = self._next(tag_set_ids)
        return found and replace(
            found, is_more=any(claim.tag_set_id in tag_set_ids for claim in list(self.ready))
        )

    def _next(self, tag_set_ids: Sequence[int]) -> Claim | None:
        for claim in list(self.ready):
            if claim.tag_set_id in tag_set_ids:
                try:
                    self.ready.remove(claim)
                except ValueError:
                    continue
                return claim
        return None

    def material(self, claim: Claim) -> Material:
        self._enter("material")
        return self.material_of(claim)

    def started(self, claim: Claim, *, input: Any, masks: tuple[str, ...]) -> bool:
        self._enter("started")
        self.started_inputs[claim.step_id] = input
        return self.is_ours

    def append(self, claim: Claim, seq: int, lines: Sequence[Line]) -> bool:
        self._enter("append")
        self.batches.setdefault((claim.attempt_id, seq), tuple(lines))
        self._done()
        return self.is_ours

    def renew(
        self, worker_id: UUID, live: Mapping[int, int], busy: int, progress: Mapping[int, int]
    ) -> Renewal:
        self._enter("renew")
        ids = frozenset(live)
        answer = Renewal(self.is_known, ids & frozenset(self.lost), ids & frozenset(self.cancelled))
        self.is_known = True
        self._done()
        return answer

    def finish(
        self,
        report: Report,
        *,
        claim_for: Sequence[int] = (),
        worker_id: UUID | None = None,
        lines: Sequence[Line] = (),
        seq: int = 0,
        job_id: UUID | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Finished:
        self._enter("finish")
        meanwhile()
        if lines:
            self.batches.setdefault((report.claim.attempt_id, seq), tuple(lines))
        self.reports.append(report)
        following = self._next(claim_for) if claim_for else None
        bells, self.bells = self.bells, {}
        self._done()
        return Finished(True, following, bells)

    def ended(self, names: frozenset[str]) -> frozenset[str]:
        self._enter("ended")
        return frozenset()

    def give_back(self, claim: Claim) -> None:
        self._enter("give_back")
        self.given_back.append(claim)
        self._done()

    def retire(self, worker_id: UUID) -> None:
        self._enter("retire")
        self.retired.append(worker_id)

    def linger(self, is_on: bool) -> None:
        self.lingers = is_on

    def sweep_connections(self) -> None:
        self.sweeps = getattr(self, "sweeps", 0) + 1

    def released(self) -> None:
        return

    def schema_problem(self) -> str | None:
        self._enter("schema_problem")
        return self.problem

    def lines_of(self, claim: Claim) -> list[str]:
        keys = sorted(key for key in self.batches if key[0] == claim.attempt_id)
        return [line.text for key in keys for line in self.batches[key]]

    def outcome_of(self, number: int) -> StepOutcome:
        return next(report.outcome for report in self.reports if report.claim.step_id == number)


class FakeRunner:
    """Calls `act` for each order; keeps the orders."""

    needs = frozenset({"script"})

    def __init__(self, act: Callable[[StepOrder, Any, Any], StepOutcome] | None = None) -> None:
        self.act = act or (lambda order, lines, stop: StepOutcome(Verdict.SUCCEEDED, 0))
        self.orders: list[StepOrder] = []

    def run(self, order: StepOrder, lines: Any, stop: Any) -> StepOutcome:
        self.orders.append(order)
        return self.act(order, lines, stop)

    def sweep(self, live: frozenset[str]) -> None:
        return


def until_stopped(order: StepOrder, lines: Any, stop: Any) -> StepOutcome:
    """What a well-behaved runner does with a step that never ends by itself."""
    assert stop.wait(20.0), "was never stopped"
    verdict = Verdict.CANCELLED if stop.reason == "cancel" else Verdict.LOST
    return StepOutcome(verdict, 143, f"stopped: {stop.reason}")


class FakeGuard:
    def __init__(self) -> None:
        self.beats: list[float] = []

    def beat(self) -> None:
        self.beats.append(time.monotonic())
