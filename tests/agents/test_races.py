"""Many people decide about the same call at once, and processes die in between: it is made once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.accounts.models import User
from apps.agents.models import Call, Conversation
from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.jobs.flow import finishing
from apps.jobs.models import Job
from engine.errors import StroemError
from tests.agents.bench import Bench, known_providers
from tests.agents.provider import Service, call, say, service
from tests.apps.jobs.builders import Hand, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
DECIDERS = 10
TEXT = """
tasks:
  main:
    flow:
      ask:
        type: agent
        provider: openai
        prompt: "Deploy"
        tools: [{ task: deploy, approval: always }]
  deploy:
    input: { where: { type: string, required: true } }
    flow: { go: { type: script, script: echo } }
"""


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        yield made
    Conversation.objects.all().delete()
    ApprovalRequest.objects.all().delete()


@pytest.fixture
def people() -> Iterator[list[User]]:
    made = [User(email=f"p{n}@example.com", is_superuser=True) for n in range(DECIDERS)]
    yield User.objects.bulk_create(made)
    ApprovalRequest.objects.all().delete()
    User.objects.filter(pk__in=[user.pk for user in made]).delete()


def decide_all(people: list[User], request_ids: list[int]) -> Counter[str]:
    """Everybody decides about every request, in an order of their own, all at the same time."""
    seen: Counter[str] = Counter()
    ready = threading.Barrier(len(people))

    def decide(number: int, user: User) -> None:
        chance = random.Random(number)
        order = chance.sample(request_ids, len(request_ids))
        ready.wait()
        for request_id in order:
            given = {"where": f"p{number}"} if chance.random() < 0.5 else {}
            is_approved = chance.random() < 0.7
            try:
                done = approvals.decide(
                    request_id, Caller(user, "api"), approved=is_approved, given=given
                )
                seen[str(done.status)] += 1
            except StroemError:
                seen["late"] += 1
        connections.close_all()

    threads = [threading.Thread(target=decide, args=one) for one in enumerate(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seen


def deploy(tmp_path: Path, service: Service, people: list[User], number: int) -> None:
    service.answers(call("strom_task_deploy", {"where": "prod"}), say("Done"))
    space = workspace(tmp_path, TEXT)
    made = [start(space) for _ in range(number)]
    bench, other = Bench(service.settings()), Bench(service.settings(), name="other")
    bench.work()
    requests = list(ApprovalRequest.objects.filter(status="open").values_list("pk", flat=True))
    assert len(requests) == number

    seen = decide_all(people, requests)

    assert seen["approved"] + seen["rejected"] == number
    chance = random.Random(number)
    while (claim := bench.claim()) is not None:
        if chance.random() < 0.4:
            finishing.lose(claim.attempt_id)  # the process dies
            other.turn()
        else:
            bench.perform(claim)
    Hand().work()
    other.work()
    children = Counter(
        Job.objects.filter(source_type="agent_tool").values_list("parent_job_id", flat=True)
    )
    assert sum(children.values()) == seen["approved"] and set(children.values()) <= {1}
    assert Call.objects.filter(status="refused").count() == seen["rejected"]
    ended = Job.objects.filter(id__in=[job.id for job in made]).values_list("status", flat=True)
    assert set(ended) == {"completed"}


@pytest.mark.long
def test_a_call_that_many_decide_about_is_made_once(
    tmp_path: Path, service: Service, people: list[User]
) -> None:
    deploy(tmp_path, service, people, 8)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_calls_that_many_decide_about_are_made_once(
    tmp_path: Path, service: Service, people: list[User]
) -> None:
    deploy(tmp_path, service, people, 1000)
