"""Two lanes of one worker: neither waits for the other, and both live by the same renewals."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from apps.jobs import bells
from apps.jobs.ledger import Report, TagSetRef
from engine.orders import StepOutcome, Verdict
from tests.workers.fakes import FakeLedger, FakeRunner, claim, until_stopped
from workers.attempts import Slots
from workers.bells import Ringer
from workers.execution import Performed
from workers.lane import Crew, Lane
from workers.reporting import Ended

OK = StepOutcome(Verdict.SUCCEEDED, 0)
ACTION_TAGS = TagSetRef(50, "@actions+script")


def action(number: int):
    return replace(claim(number, tag_set_id=ACTION_TAGS.id), owner_kind="action")


class FakePerformer:
    """Does runs of actions: begins, counts one command, waits for `go` or its stop signal."""

    def __init__(self, go: threading.Event) -> None:
        self.go = go
        self.begun: list[int] = []

    def perform(self, attempt) -> Performed:
        self.begun.append(attempt.claim.step_id)
        attempt.progress += 1
        while not self.go.wait(0.01):
            if attempt.stop.reason is not None:
                outcome = StepOutcome(Verdict.LOST, error=attempt.stop.reason)
                return Performed(Ended(Report(attempt.claim, outcome)))
        return Performed(Ended(Report(attempt.claim, OK, progress=attempt.progress)))

    def tidy(self, attempt, performed) -> None:
        return


@pytest.fixture
def both(bench):
    """A worker with a lane of steps (two slots) and a lane of actions (three). What a test leaves
    running ends with it: a worker would give an action its time."""
    waiting: list[threading.Event] = []

    def make(ledger: FakeLedger, runner=None, go=None, **config):
        ledger.action_tag_sets = [ACTION_TAGS]
        parts = bench(ledger, runner, **config)
        waiting.append(go or threading.Event())
        performer = FakePerformer(waiting[-1])
        crew = Crew(ledger, parts.presence, parts.attempts, Ringer(bells), 30.0)
        lane = Lane(crew, Slots(3), performer, lambda: ledger.covered_actions(()))
        parts.worker._others = (lane,)
        return parts, performer

    yield make
    for event in waiting:
        event.set()


def test_steps_run_while_every_slot_of_actions_is_taken(both):
    ledger = FakeLedger(*(action(n) for n in range(1, 6)), *(claim(n) for n in range(11, 21)))
    go = threading.Event()
    parts, performer = both(ledger, go=go)
    parts.start()
    ledger.wait_for(lambda: len(ledger.reports) == 10)
    ledger.wait_for(lambda: len(performer.begun) == 3)
    assert {report.claim.owner_kind for report in ledger.reports} == {"step"}
    go.set()
    ledger.wait_for(lambda: len(ledger.reports) == 15)


def test_actions_run_while_every_slot_of_steps_is_taken(both):
    ledger = FakeLedger(*(claim(n) for n in range(1, 5)), *(action(n) for n in range(11, 14)))
    go = threading.Event()
    go.set()
    parts, _ = both(ledger, FakeRunner(until_stopped), go=go)
    parts.start()
    ledger.wait_for(lambda: len(ledger.reports) == 3)
    assert {report.claim.owner_kind for report in ledger.reports} == {"action"}
    assert [report.progress for report in ledger.reports] == [1, 1, 1]


def test_one_renewal_names_the_attempts_of_both_lanes_and_stops_either(both):
    ledger = FakeLedger(claim(1), action(2))
    named: list[tuple[dict, dict]] = []
    renew = ledger.renew

    def note(worker_id, live, busy, progress):
        named.append((dict(live), dict(progress)))
        return renew(worker_id, live, busy, progress)

    ledger.renew = note
    parts, _ = both(ledger, FakeRunner(until_stopped), lease_s=1.8)
    parts.start()
    ledger.wait_for(lambda: ({1001: 1, 1002: 1}, {1002: 1}) in named)
    ledger.cancelled |= {1001, 1002}
    ledger.wait_for(lambda: len(ledger.reports) == 2)
    assert {report.claim.owner_kind for report in ledger.reports} == {"step", "action"}


def test_a_bell_for_an_action_takes_no_slot_of_a_step(both):
    ledger = FakeLedger()
    parts, performer = both(ledger, poll_interval_secs=3600.0)
    parts.start()
    ledger.wait_for(lambda: ledger.calls.count("claim") >= 2)  # each lane looks once by itself
    assert parts.slots.wait_until_idle(10)
    ledger.ready.append(action(1))
    parts.worker.hear(ACTION_TAGS.key)
    ledger.wait_for(lambda: performer.begun == [1])
    assert parts.slots.wait_until_idle(10)  # the action goes on


def test_a_draining_worker_takes_bound_actions_only_and_ends_those_that_stay(both):
    ledger = FakeLedger(action(1))
    asked: list[bool] = []
    take = ledger.claim

    def note(worker_id, tag_set_ids, *, job_id=None, only_bound=False):
        asked.append(only_bound)
        return take(worker_id, tag_set_ids, job_id=job_id, only_bound=only_bound)

    ledger.claim = note
    parts, performer = both(ledger)
    parts.start()
    ledger.wait_for(lambda: performer.begun == [1])
    assert not any(asked)
    parts.config = None
    parts.worker._others[0].narrow()
    parts.worker._others[0].wake()
    ledger.wait_for(lambda: asked[-1])
    hurry = threading.Event()
    hurry.set()
    parts.is_drained = True
    parts.worker.drain(0.0, hurry)
    assert [report.outcome.verdict for report in ledger.reports] == [Verdict.LOST]


def test_a_lane_asks_about_what_it_expects_only_while_it_expects_something(bench):
    ledger, expected, asked = FakeLedger(), [], []
    ledger.action_tag_sets = [ACTION_TAGS]
    parts = bench(ledger)
    crew = Crew(ledger, parts.presence, parts.attempts, Ringer(bells), 30.0)
    lane = Lane(
        crew, Slots(1), FakePerformer(threading.Event()), lambda: ledger.covered_actions(()),
        before_look=lambda: asked.append(len(expected)), expected=expected,
    )  # fmt: skip
    lane.look()
    expected.append("a session")
    lane.look()
    assert asked == [1]
