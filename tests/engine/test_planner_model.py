"""The planner under a small model of a job in memory: random flows, any order of events, one
end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.lifecycle import STEP_TABLE, JobEventKind, StepEventKind, StepStatus
from engine.orders import StepOutcome, Verdict
from engine.planner import (
    Promotion,
    Tally,
    Tries,
    after_loss,
    after_outcome,
    close_loop,
    conclude,
    promote,
)
from engine.spec.model import Retry
from tests.engine.dags import Flow, Node, flows

E, S = StepEventKind, StepStatus
LOST_RETRIES = 2
NOTHING = Tally(0, 0, 0)


@dataclass
class Piece:
    """A step, or an instance of a loop (`of` is its loop then)."""

    node: Node
    of: str | None = None
    index: int = 0
    status: StepStatus = S.PENDING
    left: int = 0
    tally: Tally = NOTHING
    runs: int = 0
    losses: int = 0
    waits: bool = False  # for its next run
    open: int = 0  # of a loop
    next: int = 0
    failed: list[int] = field(default_factory=list)


class Job:
    """What `apps.jobs` does with rows, done with objects; every decision is the planner's."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.pieces = {node.name: Piece(node, left=len(node.needs)) for node in flow.nodes}
        self.dependents = {
            n.name: [m.name for m in flow.nodes if n.name in m.needs] for n in flow.nodes
        }
        self.is_cancelling = False
        self.end: JobEventKind | None = None
        for name in [name for name, piece in self.pieces.items() if not piece.left]:
            self._consider(name)
        self._conclude()

    def names(self, *statuses: StepStatus) -> list[str]:
        return sorted(name for name, piece in self.pieces.items() if piece.status in statuses)

    def waiting_for_retry(self) -> list[str]:
        return sorted(name for name, piece in self.pieces.items() if piece.waits)

    def _move(self, name: str, event: StepEventKind) -> None:
        piece = self.pieces[name]
        piece.status = STEP_TABLE[piece.status, event]

    def _consider(self, name: str) -> None:
        piece = self.pieces[name]
        if self.is_cancelling:
            self._settle(name, E.CANCELLED)
        elif (
            promote(piece.tally, tolerates=piece.node.tolerates) is Promotion.SKIP
            or piece.node.when == "false"
        ):
            self._settle(name, E.SKIPPED)
        elif piece.node.when == "error":
            self._settle(name, E.FAILED)
        elif piece.node.items is not None:
            self._open_loop(name, piece)
        else:
            self._move(name, E.UNBLOCKED)

    def _open_loop(self, name: str, piece: Piece) -> None:
        if not piece.node.items:
            self._settle(name, E.SKIPPED)
            return
        self._move(name, E.DISPATCHED)
        piece.open = piece.node.items
        for index in range(piece.node.items):
            self.pieces[f"{name}[{index}]"] = Piece(piece.node, of=name, index=index)
        self._release(name)

    def _release(self, name: str) -> None:
        piece = self.pieces[name]
        items = piece.node.items or 0
        width = 1 if piece.node.sequential else piece.node.width or items
        while piece.next < items and piece.next - (items - piece.open) < width:
            piece.next += 1
            self._move(f"{name}[{piece.next - 1}]", E.UNBLOCKED)

    def _settle(self, name: str, event: StepEventKind) -> None:
        self._move(name, event)
        piece = self.pieces[name]
        piece.waits = False
        if piece.of is not None:
            self._settle_instance(piece, event)
            return
        for dependent in self.dependents[name]:
            self._count(self.pieces[dependent], piece.node, event)
            if not self.pieces[dependent].left and self.pieces[dependent].status is S.PENDING:
                self._consider(dependent)

    def _count(self, dependent: Piece, node: Node, event: StepEventKind) -> None:
        old, good = dependent.tally, event is E.SUCCEEDED or (event is E.FAILED and node.tolerates)
        dependent.left -= 1
        dependent.tally = Tally(
            old.completed + good,
            old.failed + (not good and event is not E.SKIPPED),
            old.skipped + (event is E.SKIPPED),
        )

    def _settle_instance(self, piece: Piece, event: StepEventKind) -> None:
        assert piece.of is not None
        loop, node = self.pieces[piece.of], piece.node
        loop.open -= 1
        if event in (E.FAILED, E.CANCELLED):
            loop.failed.append(piece.index)
        if loop.open == 0:
            end = close_loop(
                tuple(loop.failed), tolerates=node.tolerates, is_cancelling=self.is_cancelling
            )
            self._settle(piece.of, end.event)
        elif not self.is_cancelling:
            if node.sequential and loop.failed and not node.tolerates:
                for index in range(loop.next, node.items or 0):
                    if self.pieces[f"{piece.of}[{index}]"].status is S.PENDING:
                        loop.next = max(loop.next, index + 1)
                        self._settle(f"{piece.of}[{index}]", E.SKIPPED)
            else:
                self._release(piece.of)

    def _conclude(self) -> None:
        steps = [piece for piece in self.pieces.values() if piece.of is None]
        if self.end is None and all(piece.status.is_final for piece in steps):
            bad = sum(
                piece.status is S.CANCELLED
                or (piece.status is S.FAILED and not piece.node.tolerates)
                for piece in steps
            )
            self.end = conclude(bad_steps=bad, is_cancelling=self.is_cancelling)

    # What can happen

    def claim(self, name: str) -> None:
        self._move(name, E.CLAIMED)
        self.pieces[name].runs += 1

    def finish(self, name: str, verdict: Verdict, chance: float) -> None:
        piece = self.pieces[name]
        retry = (
            Retry(max_attempts=piece.node.runs, delay_s=1)
            if piece.node.runs > 1 and piece.of is None
            else None
        )
        tries = Tries(piece.runs, piece.losses, retry)
        self._apply(
            name,
            after_outcome(
                StepOutcome(verdict), tries, is_cancelling=self.is_cancelling, chance=chance
            ).event,
        )

    def lose(self, name: str, had_started: bool) -> None:
        piece = self.pieces[name]
        found = after_loss(
            "w",
            Tries(piece.runs, piece.losses, None),
            had_started=had_started,
            may_repeat=True,
            lost_retries=LOST_RETRIES,
            is_cancelling=self.is_cancelling,
            chance=0,
        )
        if found.event is E.RETURNED:
            piece.runs -= 1
            piece.losses += had_started
        self._apply(name, found.event)

    def _apply(self, name: str, event: StepEventKind) -> None:
        if event in (E.RETRIED, E.RETURNED):
            self._move(name, event)
            self.pieces[name].waits = event is E.RETRIED
        else:
            self._settle(name, event)
        self._conclude()

    def come_due(self, name: str) -> None:
        self.pieces[name].waits = False
        self._move(name, E.UNBLOCKED)

    def cancel(self) -> None:
        self.is_cancelling = True
        for name in self.names(S.PENDING, S.READY, S.SUSPENDED):
            if not self.pieces[name].status.is_final:
                self._settle(name, E.CANCELLED)
        self._conclude()


class Planning(RuleBasedStateMachine):
    transitions = 0

    @initialize(flow=flows())
    def begin(self, flow: Flow) -> None:
        self.job = Job(flow)

    def _pick(self, data: Any, names: list[str]) -> str:
        type(self).transitions += 1
        return str(data.draw(st.sampled_from(names)))

    def _verdict(self, name: str) -> Verdict:
        piece = self.job.pieces[name]
        fails = (
            piece.index in piece.node.bad
            if piece.of is not None
            else piece.runs <= piece.node.fails
        )
        return Verdict.FAILED if fails else Verdict.SUCCEEDED

    @precondition(lambda self: self.job.names(S.READY))
    @rule(data=st.data())
    def claim(self, data: Any) -> None:
        self.job.claim(self._pick(data, self.job.names(S.READY)))

    def _running(self) -> list[str]:
        return [name for name in self.job.names(S.RUNNING) if not self.job.pieces[name].open]

    @precondition(lambda self: self._running())
    @rule(data=st.data(), chance=st.floats(0, 0.99))
    def finish(self, data: Any, chance: float) -> None:
        name = self._pick(data, self._running())
        self.job.finish(name, self._verdict(name), chance)

    @precondition(lambda self: self._running())
    @rule(data=st.data(), had_started=st.booleans())
    def lose(self, data: Any, had_started: bool) -> None:
        name = self._pick(data, self._running())
        if not had_started or self.job.pieces[name].losses < LOST_RETRIES:
            self.job.lose(name, had_started)

    @precondition(lambda self: self.job.waiting_for_retry())
    @rule(data=st.data())
    def come_due(self, data: Any) -> None:
        self.job.come_due(self._pick(data, self.job.waiting_for_retry()))

    @precondition(lambda self: self.job.end is None and not self.job.is_cancelling)
    @rule(dice=st.integers(0, 9))
    def cancel(self, dice: int) -> None:
        if dice == 0:
            self.job.cancel()

    @precondition(lambda self: self.job.end is not None)
    @rule()
    def rest(self) -> None:
        """A job that has ended stays as it is."""
        assert not self.job.names(S.PENDING, S.READY, S.RUNNING, S.SUSPENDED)

    @invariant()
    def nothing_starts_early(self) -> None:
        for name in self.job.names(S.READY, S.RUNNING):
            piece = self.job.pieces[name]
            needs = piece.node.needs if piece.of is None else ()
            assert all(self.job.pieces[needed].status.is_final for needed in needs), name
        for piece in self.job.pieces.values():
            if (
                piece.node.items
                and piece.of is None
                and (piece.node.width or piece.node.sequential)
            ):
                out = [p for p in self.job.pieces.values() if p.of == piece.node.name]
                busy = sum(p.status in (S.READY, S.RUNNING) or p.waits for p in out)
                assert busy <= (1 if piece.node.sequential else piece.node.width or 0)

    def teardown(self) -> None:
        if not hasattr(self, "job"):
            return
        for _ in range(10_000):
            if ready := self.job.names(S.READY):
                self.job.claim(ready[0])
            elif running := self._running():
                self.job.finish(running[-1], self._verdict(running[-1]), 0.5)
            elif waiting := self.job.waiting_for_retry():
                self.job.come_due(waiting[0])
            else:
                break
            type(self).transitions += 1
        assert self.job.end is not None, "the job is stuck"
        found = {
            name: piece.status.value for name, piece in self.job.pieces.items() if piece.of is None
        }
        if self.job.is_cancelling:
            assert self.job.end is JobEventKind.CANCELLED
            assert set(found.values()) <= {"completed", "failed", "skipped", "cancelled"}
            return
        assert found == self.job.flow.ends()
        assert (
            self.job.end.value
            == {"completed": "succeeded", "failed": "failed"}[self.job.flow.job_status()]
        )
        for name, piece in self.job.pieces.items():
            if piece.of is not None:
                assert piece.status.value == piece.node.instance_status(piece.index), name


def explore(examples: int, *, derandomize: bool) -> int:
    Planning.transitions = 0
    run_state_machine_as_test(
        Planning,
        settings=settings(
            max_examples=examples,
            stateful_step_count=50,
            deadline=None,
            database=None,
            derandomize=derandomize,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return Planning.transitions


def test_whatever_the_order_of_events_a_flow_comes_to_the_one_end_that_it_must() -> None:
    assert explore(200, derandomize=True) >= 2_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_same_over_fifty_thousand_events() -> None:
    assert explore(6_000, derandomize=False) >= 50_000
