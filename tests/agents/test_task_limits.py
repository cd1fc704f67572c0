"""What a task, and a workspace, allow all of their agents together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.agents.models import Call, Conversation, RemovedSpending, Spending, Turn
from apps.jobs import ports
from apps.jobs.models import Job, Step
from apps.workspaces.models import Workspace
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import Hand, fresh, output, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        made.answers(say("Hello!"))
        yield made
    for model in (Conversation, Spending, RemovedSpending):
        model.objects.all().delete()


def shop(
    tmp_path: Path, limits: str, steps: int = 3, tools: str = "[]", settings: str = "{}"
) -> Workspace:
    flow = "\n".join(
        f"      s{number}: {{ type: agent, provider: openai, prompt: Go, tools: {tools},"
        f" retry: {{ max_attempts: 3, delay: 1s }}, continue_on_failure: true }}"
        for number in range(steps)
    )
    text = f"""
settings: {settings}
tasks:
  other: {{ flow: {{ s0: {{ type: agent, provider: openai, prompt: Go }} }} }}
  main:
    limits: {limits}
    flow:
{flow}
  look: {{ flow: {{ go: {{ type: script, script: echo }} }} }}
"""
    return workspace(tmp_path, text)


def endings(job: Job) -> list[str]:
    rows = Step.objects.filter(job_id=job.id).order_by("name")
    return [step.error or step.status for step in rows]


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ("{ turns: 2 }", "2 of 2 turns are used"),
        ("{ tokens: 150 }", "220 of 150 tokens are used"),
        ("{ cost: 0.0002 }", "$0.0002 of $0.0002 are spent"),
    ],
)
def test_all_agents_of_a_job_share_a_limit(
    tmp_path: Path, service: Service, limits: str, why: str
) -> None:
    space = shop(tmp_path, limits)
    job, bench = start(space), Bench(service.settings())

    bench.work()

    *answered, refused = sorted(endings(job), key=len)
    assert answered == ["completed", "completed"]
    assert "The task's limit of a job is reached" in refused and why in refused
    assert len(service.seen) == 2, "and nothing is tried again"
    other = start(space)
    bench.work()
    assert endings(other).count("completed") == 2, "every job has its own"


@pytest.mark.long
def test_all_jobs_of_a_task_share_the_limit_of_a_day(tmp_path: Path, service: Service) -> None:
    space = shop(tmp_path, "{ daily: { tokens: 200 } }", steps=1)
    bench = Bench(service.settings())
    first, second = start(space), start(space)
    bench.work()
    assert {fresh(first).status, fresh(second).status} == {"completed"}
    ports.removed([first.id, second.id])

    third = start(space)
    bench.work()

    assert "The task's limit of a day is reached: 220 of 200 tokens" in step_of(third, "s0").error
    assert not Turn.objects.filter(conversation__job_id=first.id).exists()


@pytest.mark.long
def test_all_agents_of_a_job_share_tool_calls(tmp_path: Path, service: Service) -> None:
    service.script = lambda seen: say("Done") if seen.number else call("strom_task_look")
    space = shop(tmp_path, "{ tool_calls: 2 }", tools="[{ task: look }]")
    job, bench, hand = start(space), Bench(service.settings()), Hand()

    while bench.work() + hand.work({"go": output({})}):
        pass

    assert endings(job) == ["completed"] * 3
    statuses = sorted(Call.objects.values_list("status", flat=True))
    assert statuses == ["done", "done", "refused"]
    assert Job.objects.filter(parent_job_id=job.id).count() == 2


def test_a_workspace_limits_each_job_and_the_day_of_all_of_its_tasks(
    tmp_path: Path, service: Service
) -> None:
    limits = "{ limits: { turns: 2, daily: { tokens: 300 } } }"
    space = shop(tmp_path, "{ turns: 3 }", settings=limits)
    first, bench = start(space), Bench(service.settings())
    bench.work()
    *answered, refused = sorted(endings(first), key=len)
    assert answered == ["completed", "completed"]
    assert "The workspace's limit of a job is reached: 2 of 2 turns are used" in refused

    second = start(space, "other")
    bench.work()
    assert endings(second) == ["completed"], "220 of 300 tokens were used"
    third = start(space, "other")
    bench.work()
    assert "The workspace's limit of a day is reached: 330 of 300 tokens" in endings(third)[0]
