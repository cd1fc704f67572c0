"""Once only, under fire: many takers, workers that die, reports that come twice, two sweeps at a
time."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection, connections

from apps.jobs import ledger as steps
from apps.jobs.database.sql import fetch
from apps.jobs.ledger import Claim
from apps.jobs.models import Attempt, Unit
from apps.jobs.upkeep.sweeps import lost_attempts
from apps.workflow_actions import aftermath, ledger, sweeps
from apps.workflow_actions.models import JobAction, Share
from tests.apps.jobs.builders import Hand, fresh, start, workspace
from tests.apps.workflow_actions.hands import ActionHand, reported, runs
from workers.door import OUTAGES

pytestmark = pytest.mark.django_db(transaction=True)

TAKERS = 64
JOBS = 10
LOST_RETRIES = 2  # the server's default
EXPIRE = "UPDATE jobs_attempt SET lease_until = clock_timestamp() - interval '1 s' WHERE id = %s"


@pytest.fixture
def room() -> Iterator[None]:
    """A connection for every taker."""
    connection.ensure_connection()
    pool = connection.pool
    pool.resize(pool.min_size, TAKERS + 8)
    yield
    connection.close()
    connection.close_pool()  # or sixty idle ones would be left to the tests that follow


def flow(actions: list[str]) -> str:
    lines = "".join(
        f"      - {{action_type: run_commands, commands: [x], {action}}}\n" for action in actions
    )
    return (
        "actions: {do: {type: script, script: x}}\n"
        f"tasks:\n  main:\n    flow: {{a: {{action: do}}}}\n    workflow_actions:\n{lines}"
    )


class Sweepers:
    """Two that sweep over and over while the block runs."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(2)

    def __enter__(self) -> Sweepers:
        self._turns = [self._pool.submit(self._sweep) for _ in range(2)]
        return self

    def __exit__(self, *wrong: object) -> None:
        self._over.set()
        for turn in self._turns:
            turn.result(60)
        self._pool.shutdown()

    def _sweep(self) -> None:
        try:
            while not self._over.wait(0.05):
                for sweep in (lost_attempts, sweeps.unsettled_actions, sweeps.overlooked_sets):
                    sweep()
                    ledger.released()
        finally:
            connections.close_all()


def report(claim: Claim) -> bool:
    """Whether the report counted; a database that is busy is asked again, as workers do."""
    while True:
        try:
            return reported(claim)
        except OUTAGES:
            ledger.released()


def together(count: int, work: Callable[[int], None]) -> None:
    """`work` in so many threads, all of which begin at once."""
    gate = threading.Barrier(count)

    def begin(number: int) -> None:
        try:
            gate.wait(60)
            work(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        for turn in [pool.submit(begin, number) for number in range(count)]:
            turn.result(500)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "each", [20, pytest.param(100, marks=pytest.mark.slow)], ids=["200", "1000"]
)
def test_actions_before_sixty_four_takers_are_each_done_once(tmp_path, room, each):
    ws = workspace(tmp_path, flow(["trigger_type: on_workflow_start"] * each))
    jobs = [start(ws) for _ in range(JOBS)]
    count = JOBS * each
    assert JobAction.objects.filter(status="armed").count() == count
    ids = [Hand(name=f"taker{number}").id for number in range(TAKERS)]
    sets = [ref.id for ref in steps.covered_actions(("script",))]
    done: Counter[int] = Counter()
    died: Counter[int] = Counter()
    refused = 0
    lock = threading.Lock()

    def take(number: int) -> None:
        nonlocal refused
        chance = random.Random(number)
        while JobAction.objects.filter(status__in=["armed", "running"]).exists():
            found = steps.claim(ids[number], sets)
            ledger.released()
            if found is None:
                time.sleep(0.05)
                continue
            # one time more, and the action has failed
            may_die = died[found.owner_id] < LOST_RETRIES
            # the worker dies in the middle of it, and its lease runs out
            if may_die and chance.random() < 0.05:
                fetch(EXPIRE + " RETURNING id", (found.attempt_id,))
                with lock:
                    died[found.owner_id] += 1
                continue
            first, second = report(found), report(found)
            ledger.released()
            with lock:
                done[found.owner_id] += first
                refused += not second

    with Sweepers():
        together(TAKERS, take)
    assert len(done) == count and set(done.values()) == {1}
    assert refused == count, "a second report of the same run changes nothing"
    assert died, "some workers died, or the test shows little"
    found = Counter(Attempt.objects.values_list("status", flat=True))
    assert found == {"completed": count, "lost": died.total()}
    assert Counter(Unit.objects.values_list("status", flat=True)) == {"completed": count}
    assert set(JobAction.objects.values_list("status", flat=True)) == {"succeeded"}
    assert all(fresh(job).status == "running" for job in jobs)


@pytest.mark.long
def test_persistent_actions_are_done_once_by_every_session(tmp_path, room):
    job = start(workspace(tmp_path, flow(["trigger_type: on_worker_start"] * 3)))
    hands = [ActionHand() for _ in range(TAKERS // 4)]
    done: Counter[tuple[int, int]] = Counter()
    lock = threading.Lock()

    def come(number: int) -> None:  # two threads for each worker: whatever came may come twice
        hand = hands[number // 2]
        session = ledger.enter(hand.id, job.id)
        assert session is not None
        while not ledger.is_entered(session):
            ledger.released()
            found = hand.take_action()
            if found is not None:
                unit = Unit.objects.get(id=found.step_id)
                assert unit.bound_to == hand.id, "nobody does another worker's share"
                share = Share.objects.get(unit_id=unit.id)
                with lock:
                    done[found.owner_id, share.session_id] += report(found)

    with Sweepers():
        together(TAKERS // 2, come)
    assert len(done) == 3 * len(hands) and set(done.values()) == {1}
    assert (
        Unit.objects.filter(status="completed").count()
        == 3 * len(hands)
        == Unit.objects.count()
        == Attempt.objects.count()
    )


@pytest.mark.long
def test_what_two_sweeps_find_lost_is_repeated_once(tmp_path):
    start(workspace(tmp_path, flow(["trigger_type: on_workflow_start"] * 50)))
    hand = ActionHand()
    taken = [hand.take_action() for _ in range(50)]
    for claim in taken:
        assert claim is not None
        fetch(EXPIRE + " RETURNING id", (claim.attempt_id,))
    together(8, lambda number: [lost_attempts() for _ in range(3)] and None)
    assert Counter(Attempt.objects.values_list("status", flat=True)) == {"lost": 50}
    assert Counter(Unit.objects.values_list("status", "losses")) == {("ready", 1): 50}
    assert not any(reported(claim) for claim in taken if claim), "the dead come too late"
    assert len(hand.do_actions()) == 50


def test_an_action_whose_workers_all_die_fails_visibly(tmp_path):
    start(workspace(tmp_path, flow(["trigger_type: on_workflow_start"])))
    hand = ActionHand(name="mayfly")
    deaths = 0
    while (claim := hand.take_action()) is not None:
        fetch(EXPIRE + " RETURNING id", (claim.attempt_id,))
        deaths += lost_attempts()
        assert deaths < 20
    row = JobAction.objects.get()
    assert row.status == "failed" and row.reason == "Worker mayfly was lost" and deaths > 1


def test_what_cannot_be_settled_at_once_is_left_to_the_sweep(tmp_path, monkeypatch, caplog):
    """A lock that is held for too long must not fail the worker that has just reported its action
    done."""
    job = start(workspace(tmp_path, flow(["name: it, trigger_type: on_workflow_start"])))
    hand = ActionHand()

    def busy(job_id: object) -> None:
        raise OperationalError("canceling statement due to lock timeout")

    monkeypatch.setattr(aftermath, "settle", busy)
    hand.finish_action(hand.take_action())
    assert "lock timeout" in caplog.text and runs(job, "it") == ["succeeded"]
    monkeypatch.undo()
    assert sweeps.unsettled_actions() == 1
