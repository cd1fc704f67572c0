"""The compiled common end does what the general path does, on any flow of plain steps."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Q
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.jobs import ledger
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Attempt, Job, Step, StepEvent
from apps.jobs.transitions import claims
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, output, start, statuses, workspace

pytestmark = pytest.mark.django_db(transaction=True)
FINAL = {"completed", "failed", "skipped", "cancelled"}


@dataclass(frozen=True)
class Story:
    """A flow and what becomes of its steps."""

    needs: dict[str, list[str]]  # step -> its dependencies
    bad: set[str] = field(default_factory=set)  # those that fail
    tolerant: set[str] = field(default_factory=set)  # those that tolerate their failure
    # whose first attempt is given up, and reports when a second one runs
    lost: set[str] = field(default_factory=set)
    seed: int = 0  # of the order of finishing


@st.composite
def stories(draw: Any) -> Story:
    count = draw(st.integers(2, 8))
    names = [f"s{number}" for number in range(count)]
    needs = {
        name: sorted(draw(st.sets(st.sampled_from(names[:place]), max_size=3)) if place else [])
        for place, name in enumerate(names)
    }
    some = st.sets(st.sampled_from(names), max_size=2)
    return Story(needs, draw(some), draw(some), draw(some), draw(st.integers(0, 10**6)))


def text_of(flow: dict[str, list[str]], tolerant: set[str]) -> str:
    lines = ["actions:", "  work: {type: script, script: 'true'}", "tasks:", "  main:", "    flow:"]
    for name, needs in flow.items():
        flag = ", continue_on_failure: true" if name in tolerant else ""
        lines.append(f"      {name}: {{action: work, depends_on: [{', '.join(needs)}]{flag}}}")
    return "\n".join(lines)


class Run:
    """Works a job off in an order of finishing that chance decides, through the compiled end or the
    general one."""

    def __init__(self, job: Job, story: Story, *, is_compiled: bool) -> None:
        self.job = job
        self.story = story
        self.hand = Hand()
        sets = [ref.id for ref in ledger.covered(self.hand.tags)]
        self.more: dict[str, Any] = (
            {"claim_for": sets, "worker_id": self.hand.id} if is_compiled else {}
        )
        self.in_hand: dict[str, ledger.Claim] = {}
        self.late: dict[str, ledger.Claim] = {}
        self.seen: list[Any] = []  # the rows after each end

    def work(self) -> list[Any]:
        chance = random.Random(self.story.seed)
        self.claim_all()
        while self.in_hand:
            for name in sorted(self.late.keys() & self.in_hand.keys()):
                assert not self.finish(self.late.pop(name)), (
                    f"{name}: the report of its lost attempt counted"
                )
            name = chance.choice(sorted(self.in_hand))
            assert self.finish(self.in_hand.pop(name))
        return self.seen

    def finish(self, claim: ledger.Claim) -> bool:
        name = claim.base
        outcome = (
            failed() if name in self.story.bad else output(name) if name.endswith("1") else DONE
        )
        settled = ledger.finish(ledger.Report(claim, outcome), **self.more)
        self.take(settled.next)
        self.claim_all()
        self.seen.append((name, settled.accepted, rows_of(self.job)))
        return settled.accepted

    def claim_all(self) -> None:
        while (claim := self.hand.claim()) is not None:
            self.take(claim)

    def take(self, claim: ledger.Claim | None) -> None:
        if claim is None:
            return
        now = statuses(self.job)
        assert {now[need] for need in self.story.needs[claim.base]} <= FINAL, (
            f"{claim.base} began too early: {now}"
        )
        if claim.base in self.story.lost and claim.fence == 1:
            self.late[claim.base] = claim
            ledger.give_back(claim)
        else:
            self.in_hand[claim.base] = claim


def rows_of(job: Job) -> list[Any]:
    found = Step.objects.filter(job_id=job.id).order_by("position")
    return list(found.annotate(waits=Q(ready_at=None), unranked=Q(fair_rank=0)).values_list(
        "name", "status", "error", "output", "has_output", "deps_left", "deps_completed", "deps_failed", "deps_skipped",
        "attempts", "losses", "fence", "waits", "unranked",
    ))  # fmt: skip


def picture(job: Job) -> tuple[Any, ...]:
    row = fresh(job)
    events = sorted(StepEvent.objects.filter(job_id=job.id).values_list("kind", flat=True))
    attempts = sorted(
        Attempt.objects.filter(job_id=job.id).values_list("status", "exit_code", "error")
    )
    ended = not Attempt.objects.filter(job_id=job.id, ended_at=None).exists()
    return (
        (row.status, row.output, row.error, row.open_steps, row.bad_steps),
        events,
        attempts,
        ended,
    )


@pytest.mark.long
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@example(Story({"s0": [], "s1": [], "s2": ["s0", "s1"], "s3": ["s2"]}))
@example(Story({"s0": [], "s1": [], "s2": ["s0", "s1"]}, bad={"s1"}, seed=1))
@example(Story({"s0": [], "s1": ["s0"], "s2": ["s1"]}, lost={"s0", "s1"}))
@given(stories())
def test_both_ends_leave_the_same_rows(story: Story) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = workspace(Path(folder), text_of(story.needs, story.tolerant))
        pictures = []
        for is_compiled in (False, True):
            job = start(found)
            seen = Run(job, story, is_compiled=is_compiled).work()
            pictures.append((seen, picture(job)))
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize("is_compiled", [False, True])
def test_a_restarted_job_ends_with_its_last_step_though_all_behind_it_is_done(
    tmp_path: Path, is_compiled: bool
) -> None:
    story = Story({"a": [], "b": ["a"], "c": ["b"]}, bad={"b"}, tolerant={"c"})
    job = start(workspace(tmp_path, text_of(story.needs, story.tolerant)))
    Run(job, story, is_compiled=is_compiled).work()
    assert statuses(job) == {"a": "completed", "b": "failed", "c": "completed"}
    restart_failed(job.id)
    Run(job, replace(story, bad=set()), is_compiled=is_compiled).work()
    assert (fresh(job).status, fresh(job).open_steps) == ("completed", 0)


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_can_be_done_meanwhile_is_done_once_by_either_path(
    tmp_path: Path, goes_on: bool
) -> None:
    start(workspace(tmp_path, text_of({"a": [], "b": ["a"]}, set())))
    hand, called = Hand(), []
    sets = [ref.id for ref in ledger.covered(hand.tags)] if goes_on else []
    report = ledger.Report(hand.claim(), DONE)
    ledger.finish(report, claim_for=sets, worker_id=hand.id, meanwhile=lambda: called.append(1))
    assert called == [1]


def test_the_common_end_and_the_next_claim_are_one_statement_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[str]] = []
    real = ledger.fetch_together

    def noting(statements: Any, meanwhile: Any) -> Any:
        sent.append([statement for statement, _ in statements])
        return real(statements, meanwhile)

    monkeypatch.setattr(ledger, "fetch_together", noting)
    start(workspace(tmp_path, text_of({"a": [], "b": ["a"], "c": ["b"]}, set())))
    hand = Hand()
    sets = [ref.id for ref in ledger.covered(hand.tags)]
    claim = hand.claim()
    assert claim is not None
    following = ledger.finish(ledger.Report(claim, DONE), claim_for=sets, worker_id=hand.id).next
    assert following is not None and following.step_name == "b"
    assert [len(statements) for statements in sent] == [3] and sent[0][
        1
    ] == claims.COMPLETE_BEFORE_ONE
