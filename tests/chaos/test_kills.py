"""Workers are killed and brokers forget, in the middle of many steps; a witness outside the system
says what ran."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path

import pytest
import redis

from apps.jobs.models import Job, Step
from tests.apps.jobs.builders import fresh, start, until, workspace
from tests.chaos.witness import Witness
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = 200
BACK_WITHIN_S = 40


def many(folder: Path, witness: Witness, *, count: int, seconds: float, extra: str = "") -> Job:
    """A job of steps that all may run at once, behind one first step."""
    script = textwrap.indent(witness.script(seconds), " " * 6)
    steps = "".join(f"      s{number}: {{action: work}}\n" for number in range(count))
    text = (
        f"actions:\n  work:\n    type: script\n{extra}    script: |\n{script}tasks:\n  main:\n   "
        f" flow:\n{steps}"
    )
    return start(workspace(folder, text))


def end_of(job: Job, within_s: float) -> Job:
    until(lambda: fresh(job).completed_at is not None, within_s=within_s, every_s=0.2)
    return fresh(job)


@pytest.mark.parametrize(
    "tree", [pytest.param(False, marks=pytest.mark.slow), True], ids=["process", "tree"]
)
def test_every_step_of_a_killed_worker_runs_again_where_its_author_allows_it(
    house: House, witness: Witness, tmp_path: Path, scale: int, tree: bool
) -> None:
    house.scheduler()
    victim, _ = house.worker("victim"), house.worker("survivor")
    count = STEPS * scale
    job = many(
        tmp_path,
        witness,
        count=count,
        seconds=0.3 if scale > 1 else 0.15,
        extra="    on_worker_lost: retry\n",
    )
    until(lambda: witness.ends() > count // 4, within_s=60 * scale, every_s=0.02)
    house.kill(victim, tree=tree)
    killed_at = time.time()
    ended = end_of(job, within_s=120 * scale)
    assert ended.status == "completed", ended.error
    assert witness.overlaps() == []
    runs = witness.runs()
    assert len(runs) == count
    lost = set(Step.objects.filter(job_id=job.id, losses__gt=0).values_list("name", flat=True))
    assert {step for step, found in runs.items() if len(found) > 1} <= lost
    assert 1 <= len(lost) <= 4
    # one that the victim had claimed and not yet begun has a single run, and that is after the kill
    for step in lost:
        assert killed_at < runs[step][-1].start < killed_at + BACK_WITHIN_S
        assert runs[step][-1].end is not None


@pytest.mark.long
@pytest.mark.parametrize(
    "tree", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["process", "tree"]
)
def test_only_the_steps_of_a_killed_worker_fail_where_nothing_else_is_said(
    house: House, witness: Witness, tmp_path: Path, scale: int, tree: bool
) -> None:
    house.scheduler()
    victim, _ = house.worker("victim"), house.worker("survivor")
    count = STEPS * scale
    job = many(tmp_path, witness, count=count, seconds=0.3 if scale > 1 else 0.15)
    until(lambda: witness.ends() > count // 4, within_s=60 * scale, every_s=0.02)
    house.kill(victim, tree=tree)
    ended = end_of(job, within_s=120 * scale)
    assert ended.status == "failed"
    bad = dict(Step.objects.filter(job_id=job.id, status="failed").values_list("name", "error"))
    assert set(bad.values()) == {"Worker victim was lost"}
    cut_short = {step for step, found in witness.runs().items() if found[-1].end is None}
    # One that had ended a moment before, and whose report died with the worker, is lost as well.
    assert cut_short <= set(bad) and 1 <= len(bad) <= 4
    assert Step.objects.filter(job_id=job.id, status="completed").count() == count - len(bad)
    assert all(len(found) == 1 for step, found in witness.runs().items() if step not in bad)


def test_a_flushed_broker_costs_no_step(
    house: House, witness: Witness, tmp_path: Path, scale: int, broker_client: redis.Redis
) -> None:
    house.scheduler()
    house.worker("one")
    house.worker("two")
    count = STEPS * scale
    job = many(tmp_path, witness, count=count, seconds=0.05)
    for part in range(1, 6):
        until(
            lambda part=part: witness.ends() > count * part // 8, within_s=60 * scale, every_s=0.01
        )
        broker_client.flushall()
    ended = end_of(job, within_s=60 * scale)
    assert ended.status == "completed"
    assert witness.overlaps() == [] and witness.starts() == count


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_finishes_what_it_runs_and_takes_nothing_new(
    house: House, witness: Witness, tmp_path: Path
) -> None:
    house.scheduler()
    leaving = house.worker("leaving")
    job = many(tmp_path, witness, count=30, seconds=0.3)
    until(lambda: witness.starts() >= 4)
    leaving.terminate()
    assert leaving.wait(15) == 0
    done = witness.ends()
    assert witness.starts() == done < 30
    house.worker("coming")
    assert end_of(job, within_s=60).status == "completed"
    assert witness.starts() == 30 and Step.objects.filter(job_id=job.id, losses__gt=0).count() == 0
