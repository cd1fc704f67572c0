"""The compiled common end does what the general path does, on any flow of plain steps."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.jobs import ledger
from apps.jobs.models import Attempt, Job, Step, StepEvent
from apps.jobs.transitions import compiled
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, output, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)


@st.composite
def flows(draw: Any) -> tuple[dict[str, list[str]], set[str], set[str]]:
    """(step -> its dependencies), those that fail, those that tolerate their failure."""
    count = draw(st.integers(2, 8))
    names = [f"s{number}" for number in range(count)]
    flow = {
        name: sorted(draw(st.sets(st.sampled_from(names[:place]), max_size=3)) if place else [])
        for place, name in enumerate(names)
    }
    bad = draw(st.sets(st.sampled_from(names), max_size=2))
    return flow, bad, draw(st.sets(st.sampled_from(names), max_size=2))


def text_of(flow: dict[str, list[str]], tolerant: set[str]) -> str:
    lines = ["actions:", "  work: {type: script, script: 'true'}", "tasks:", "  main:", "    flow:"]
    for name, needs in flow.items():
        flag = ", continue_on_failure: true" if name in tolerant else ""
        lines.append(f"      {name}: {{action: work, depends_on: [{', '.join(needs)}]{flag}}}")
    return "\n".join(lines)


def run(job: Job, bad: set[str], seed: int, *, is_compiled: bool) -> None:
    """Work the job off in a random order of finishing, through the compiled end or through the general one."""
    chance = random.Random(seed)
    hand = Hand()
    sets = [ref.id for ref in ledger.covered(hand.tags)]
    in_hand: list[ledger.Claim] = []
    while True:
        while (claim := hand.claim()) is not None:
            in_hand.append(claim)
        if not in_hand:
            return
        claim = in_hand.pop(chance.randrange(len(in_hand)))
        outcome = failed() if claim.base in bad else output(claim.base) if claim.base.endswith("1") else DONE
        more = {"claim_for": sets, "worker_id": hand.id} if is_compiled else {}
        settled = ledger.finish(ledger.Report(claim, outcome), **more)
        assert settled.accepted
        if settled.next is not None:
            in_hand.append(settled.next)


def picture(job: Job) -> tuple[Any, ...]:
    steps = Step.objects.filter(job_id=job.id).order_by("position").values_list(
        "name", "status", "error", "output", "has_output", "deps_left", "deps_completed", "deps_failed", "deps_skipped",
        "attempts",
    )  # fmt: skip
    row = fresh(job)
    events = sorted(StepEvent.objects.filter(job_id=job.id).values_list("kind", flat=True))
    attempts = sorted(Attempt.objects.filter(job_id=job.id).values_list("status", "exit_code", "error"))
    ended = not Attempt.objects.filter(job_id=job.id, ended_at=None).exists()
    return list(steps), (row.status, row.output, row.error, row.open_steps, row.bad_steps), events, attempts, ended


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(flows(), st.integers(0, 10**6))
def test_both_ends_leave_the_same_rows(flow: tuple[dict[str, list[str]], set[str], set[str]], seed: int) -> None:
    steps, bad, tolerant = flow
    with tempfile.TemporaryDirectory() as folder:
        found = workspace(Path(folder), text_of(steps, tolerant))
        pictures = []
        for is_compiled in (False, True):
            job = start(found)
            run(job, bad, seed, is_compiled=is_compiled)
            pictures.append(picture(job))
    assert pictures[0] == pictures[1]


def test_the_common_end_and_the_next_claim_are_one_statement_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[str]] = []
    real = ledger.fetch_together

    def noting(statements: Any) -> Any:
        sent.append([statement for statement, _ in statements])
        return real(statements)

    monkeypatch.setattr(ledger, "fetch_together", noting)
    start(workspace(tmp_path, text_of({"a": [], "b": ["a"], "c": ["b"]}, set())))
    hand = Hand()
    sets = [ref.id for ref in ledger.covered(hand.tags)]
    claim = hand.claim()
    assert claim is not None
    following = ledger.finish(ledger.Report(claim, DONE), claim_for=sets, worker_id=hand.id).next
    assert following is not None and following.step_name == "b"
    assert [len(statements) for statements in sent] == [3] and sent[0][1] == compiled.COMPLETE
