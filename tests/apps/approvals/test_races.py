"""Ten concurrent decisions on one request: approvals, rejections, timeouts, cancels. One wins, the
others are told."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier

import pytest
from django.db import connections

from apps.accounts.models import User
from apps.approvals import reminders, services
from apps.approvals.models import ApprovalRequest, Record, Vote
from apps.approvals.services import Caller
from apps.jobs.database.sql import fetch
from apps.jobs.models import Job, StepEvent
from apps.jobs.services import cancel_job
from engine.errors import Conflict
from engine.lifecycle import RequestStatus
from tests.apps.approvals.gates import asked, gate, operator, request_of, step_of
from tests.apps.jobs.builders import fresh

pytestmark = pytest.mark.django_db(transaction=True)

DECIDERS = 10
WON = {"approved": "approve", "rejected": "reject", "timed_out": "time_out", "cancelled": "cancel"}
STEP = {
    "approved": "completed",
    "rejected": "failed",
    "timed_out": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class Case:
    """One request, and what each of the ten does to it."""

    job: Job
    request: ApprovalRequest
    acts: tuple[str, ...]


def acts(number: int) -> tuple[str, ...]:
    """Seven deciders and three others: the timeout, a cancel, or both."""
    deciding = ["approve" if (number + place) % 3 else "reject" for place in range(7)]
    others = {
        0: ["approve", "approve", "reject"],
        1: ["time out", "approve", "reject"],
        2: ["cancel", "approve", "approve"],
        3: ["time out", "cancel", "time out"],
    }[number % 4]
    turn = number % DECIDERS
    mixed = [*deciding, *others]
    return tuple(mixed[turn:] + mixed[:turn])


def play(case: Case, place: int, users: list[User]) -> str:
    """One of the ten actions. Returns `late: ...` if it was told so, else its answer."""
    try:
        match case.acts[place]:
            case "time out":
                fetch(
                    "UPDATE jobs_step SET deadline_at = clock_timestamp() WHERE id = %s AND status"
                    " = 'suspended'",
                    (case.request.step_id,),
                )
                reminders.overdue_approvals()
                return "swept"
            case "cancel":
                cancel_job(case.job.pk, actor="boss@example.org")
                return "cancelled"
            case act:
                caller = Caller(users[place], "api", f"192.0.2.{place}")
                return services.decide(case.request.pk, caller, approved=act == "approve").status
    except Conflict as error:
        return f"late: {error}"


def race(cases: list[Case]) -> list[list[str]]:
    """All actions of each case at once, one case after the other. Answers by case and action."""
    users = [operator() for _ in range(DECIDERS)]
    barrier = Barrier(DECIDERS, timeout=60)

    def decider(place: int) -> list[str]:
        try:
            answers = []
            for case in cases:
                barrier.wait()
                answers.append(play(case, place, users))
            return answers
        finally:
            connections.close_all()

    with ThreadPoolExecutor(DECIDERS) as pool:
        return [list(column) for column in zip(*pool.map(decider, range(DECIDERS)), strict=True)]


def judge(case: Case, answers: list[str]) -> str:
    """Checks that one decision was made, that all agree on it, and that the record is complete.
    Returns the kind of decision."""
    request = ApprovalRequest.objects.get(pk=case.request.pk)
    step = step_of(case.job)
    assert step.status == STEP[request.status], (request.status, step.status)
    finals = StepEvent.objects.filter(
        step_id=step.pk, kind__in=["succeeded", "failed", "cancelled"]
    )
    assert finals.count() == 1
    records = list(Record.objects.filter(request_id=request.pk).order_by("id"))
    done = [record for record in records if record.outcome == "done"]
    assert [record.what for record in done] == [WON[request.status]]
    assert done[0].actor == request.closed_by
    tried = [place for place, act in enumerate(case.acts) if act in ("approve", "reject")]
    of_people = [record for record in records if record.via == "api"]
    assert len(of_people) == len(tried), "each try is on record, once"
    by_place = Counter(record.address for record in of_people)
    assert by_place == Counter(f"192.0.2.{place}" for place in tried)
    check_answers(case, answers, request)
    check_votes(request)
    assert fresh(case.job).status in ("failed", "cancelled", "running")
    return str(request.status)


def check_answers(case: Case, answers: list[str], request: ApprovalRequest) -> None:
    winners = [place for place, answer in enumerate(answers) if answer in ("approved", "rejected")]
    assert len(winners) == (1 if request.status in ("approved", "rejected") else 0)
    assert all(answers[place] == request.status for place in winners)
    when = re.escape(str(request.closed_at.isoformat(timespec="seconds")).replace("+00:00", "Z"))  # type: ignore[union-attr]
    by = rf" by {re.escape(request.closed_by)}" if request.closed_by else ""
    told = re.compile(
        rf"late: Step 'gate' is not in suspended state \(current: \w+\): [\w ]+{by} at {when}"
    )
    for place, answer in enumerate(answers):
        if (
            case.acts[place] in ("approve", "reject")
            and place not in winners
            and answer != "suspended"
        ):
            assert told.fullmatch(answer), answer


def check_votes(request: ApprovalRequest) -> None:
    agreed = Vote.objects.filter(request=request, approved=True).count()
    if request.status == "approved":
        assert agreed == request.min_approvals
    else:
        assert agreed < request.min_approvals


def play_out(folder: Path, count: int) -> Counter[str]:
    one, two = gate(folder, "timeout: 24h"), gate(folder, "timeout: 24h\nmin_approvals: 2")
    jobs = [asked(two if number % 5 == 4 else one) for number in range(count)]
    cases = [Case(job, request_of(job), acts(number)) for number, job in enumerate(jobs)]
    found = Counter(judge(case, answers) for case, answers in zip(cases, race(cases), strict=True))
    assert not ApprovalRequest.objects.filter(status=RequestStatus.OPEN).exists()
    return found


@pytest.mark.long
def test_of_ten_at_once_one_decides_and_the_others_are_told_who(tmp_path: Path) -> None:
    found = play_out(tmp_path, 60)
    assert sum(found.values()) == 60


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_requests_with_ten_deciders_each(tmp_path: Path) -> None:
    found = play_out(tmp_path, 1000)
    assert sum(found.values()) == 1000
    assert set(found) == set(WON), f"the mix must reach every end: {found}"


@pytest.mark.sample(4)
@pytest.mark.parametrize("other", ["approve", "reject", "cancel", "time out"])
def test_an_approval_meets_each_rival(tmp_path: Path, other: str) -> None:
    workspace = gate(tmp_path, "timeout: 24h")
    cases = []
    for _ in range(5):
        job = asked(workspace)
        cases.append(Case(job, request_of(job), ("approve", *[other] * 9)))
    for case, answers in zip(cases, race(cases), strict=True):
        judge(case, answers)
