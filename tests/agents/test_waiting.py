"""Agent steps that wait for people or for child jobs occupy nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from apps.agents.models import Conversation
from apps.approvals.models import ApprovalRequest
from apps.fleet.models import TagSet
from apps.jobs.models import Attempt, Job, Step
from tests.agents.bench import Bench, known_providers
from tests.apps.jobs.builders import start, until, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.house import House, database_url

MANY = 50
WATCHED_S = 45.0
QUIET_S = 35.0  # then processes look for work as rarely as they ever do
FLOW = """
tasks:
  main:
    input: { who: { type: string, required: true } }
    flow:
      ask:
        type: agent
        provider: openai
        prompt: "{{ input.who }}"
        interactive: true
        tools: [{ task: work }]
  work:
    flow: { go: { type: approval, message: "Go on?" } }
"""
ANSWERS = """
answers:
  - { when: people, call: { tool: ask_user, arguments: { question: "Go on?" } } }
  - { when: children, call: { tool: strom_task_work, arguments: {} } }
"""
HELD = """
SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%') FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def provider(transactional_db: None, tmp_path: Path, settings: Any) -> Iterator[dict[str, Any]]:
    known_providers(settings)
    file = tmp_path / "answers.yaml"
    file.write_text(ANSWERS)
    yield {"openai": {"type": "fake", "answers": str(file)}}
    Conversation.objects.all().delete()
    ApprovalRequest.objects.all().delete()


def begin(tmp_path: Path) -> list[Job]:
    space = workspace(tmp_path, FLOW)
    return [start(space, who=("people", "children")[number % 2]) for number in range(MANY)]


def all_wait() -> bool:
    return Conversation.objects.filter(parked_fence__isnull=False).count() == MANY


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_fifty_waiting_steps_hold_no_attempt_and_are_no_work(
    tmp_path: Path, provider: dict[str, Any]
) -> None:
    begin(tmp_path)
    given = {"openai": provider["openai"] | {"answers": Path(provider["openai"]["answers"])}}
    bench = Bench(given)

    assert bench.work() == MANY and all_wait()

    of_agents = Step.objects.filter(kind="agent")
    assert of_agents.filter(status="suspended").count() == MANY // 2
    assert of_agents.filter(status="running").count() == MANY // 2
    assert not Attempt.objects.filter(step_id__in=of_agents.values("pk"), ended_at=None).exists()
    ready = Step.objects.filter(status="ready", tag_set__in=TagSet.objects.filter(key="@agents"))
    assert not ready.exists() and bench.claim() is None


def seconds_of(processes: list[psutil.Process]) -> float:
    """Processor time that these and their children have used so far."""
    used = [one.cpu_times() for one in processes]
    return sum(one.user + one.system + one.children_user + one.children_system for one in used)


def share(processes: list[psutil.Process], within_s: float = WATCHED_S) -> float:
    """Of one core, over this time."""
    before = seconds_of(processes)
    psutil.wait_procs(processes, timeout=within_s)  # none ends
    return (seconds_of(processes) - before) / within_s


def connections() -> tuple[int, int]:
    """Those of all processes, most of them idle in pools, and those in the midst of something."""
    with connection.cursor() as cursor:
        cursor.execute(HELD)
        pooled, held = cursor.fetchone()
        return pooled, held


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.django_db(transaction=True)
def test_fifty_waiting_steps_cost_less_than_a_hundredth_of_a_core(
    tmp_path: Path, provider: dict[str, Any]
) -> None:
    env = os.environ | {
        "STROEM__DB__URL": database_url(), "STROEM__AGENTS__PROVIDERS": json.dumps(provider),
    }  # fmt: skip
    house = House(tmp_path, env)
    try:
        started = [house.scheduler(), house.start("agents", name="agents")]
        processes = [psutil.Process(one.pid) for one in started]
        until(lambda: connections()[0] > 1, within_s=60)
        share(processes, QUIET_S)
        idle = share(processes)

        begin(tmp_path)
        until(all_wait, within_s=120, every_s=0.5)
        share(processes, QUIET_S)
        waiting, (pooled, held) = share(processes), connections()
    finally:
        house.close()

    told = f"idle {idle:.2%} of a core, with {MANY} waiting steps {waiting:.2%}"
    print(f"{told}; {pooled} connections in pools, {held} held")
    assert waiting - idle < 0.01 and held == 0
    assert all_wait()
