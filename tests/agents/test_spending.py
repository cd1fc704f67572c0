"""What agents cost, by day, task and provider: kept beside the conversations, read in two queries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.agents import spending
from apps.agents.models import Conversation, RemovedSpending, Spending, Turn
from apps.jobs import ports
from apps.jobs.models import Job
from engine.agents.dialogue import Usage
from engine.agents.limits import Limits
from tests.agents.bench import Bench, known_providers, step_of
from tests.agents.provider import Service, say, service
from tests.apps.jobs.builders import start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
tasks:
  main: { flow: { ask: { type: agent, provider: openai, prompt: "Go" } } }
  other: { flow: { ask: { type: agent, provider: anthropic, prompt: "Go" } } }
"""
ROWS = """
INSERT INTO agents_spending (day, workspace, task_name, provider, answers, unpriced, tokens_in,
    tokens_out, cached, cost)
SELECT current_date - d, 'w' || t %% 20, 'task ' || t, 'p' || p, 3, 0, 1000, 100, 0, 0.01
FROM generate_series(0, %(days)s - 1) d, generate_series(1, %(tasks)s) t, generate_series(1, 2) p
"""


@pytest.fixture(name="service")
def running_service(transactional_db: None, settings: Any) -> Iterator[Service]:
    known_providers(settings)
    with service() as made:
        yield made
    Conversation.objects.all().delete()
    Spending.objects.all().delete()
    RemovedSpending.objects.all().delete()


@pytest.fixture
def root(transactional_db: None) -> Iterator[User]:
    user = User.objects.create_superuser("root@example.com", "a-long-password")
    yield user
    Spending.objects.all().delete()
    user.delete()


def converse(tmp_path: Path, service: Service, price: Any = None) -> Job:
    """Two conversations of `main` with openai and one of `other` with anthropic."""
    service.answers(say("Done"))
    more = {} if price is None else {"price": price}
    space = workspace(tmp_path, FLOW)
    job = start(space)
    start(space)
    start(space, "other")
    assert Bench(service.settings(**more)).work() == 3
    return job


def costs_of(user: User, **query: Any) -> Any:
    client = APIClient()
    client.force_authenticate(user)
    return client.get("/api/agents/costs", query)


def fill(days: int, tasks: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ROWS, {"days": days, "tasks": tasks})
        cursor.execute("ANALYZE agents_spending")


def test_answers_count_for_their_day_task_and_provider(
    tmp_path: Path, service: Service, root: User
) -> None:
    job = converse(tmp_path, service)

    told = costs_of(root).json()

    today = datetime.now(UTC).date().isoformat()
    assert {(row["day"], row["provider"], row["spent"]["answers"]) for row in told["days"]} == {
        (today, "openai", 2), (today, "anthropic", 1),
    }  # fmt: skip
    assert [(row["task_name"], row["spent"]["answers"]) for row in told["tasks"]] == [
        ("main", 2), ("other", 1),
    ]  # fmt: skip
    assert told["total"]["cost"] == pytest.approx(0.00036) and told["until"] == today
    assert (told["total"]["tokens_in"], told["total"]["tokens_out"]) == (300, 30)
    assert told["providers"][0]["provider"] == "openai"
    assert told["tasks"][0]["workspace"] == job.workspace.name


@pytest.mark.long
def test_costs_outlive_the_jobs(tmp_path: Path, service: Service, root: User) -> None:
    job = converse(tmp_path, service)

    ports.removed([job.pk])

    assert not Conversation.objects.filter(job_id=job.pk).exists()
    assert costs_of(root).json()["total"]["answers"] == 3


@pytest.mark.long
def test_an_answer_without_a_price_is_counted_and_said(transactional_db: None, root: User) -> None:
    row = Conversation.objects.create(
        job_id="0" * 32, step_id=1, generation=1, number=1, workspace="w", task_name="t",
        step_name="s", provider="p", opening={}, opening_sealed=b"",
    )  # fmt: skip
    spending.note(row.pk, Usage(10, 1, cost=None))
    spending.note(row.pk, Usage(10, 1, cost=0.5))

    total = costs_of(root).json()["total"]

    assert (total["answers"], total["unpriced"], total["cost"]) == (2, 1, 0.5)
    client = Client()
    client.force_login(root)
    assert "the price of 1 is not known" in client.get("/admin/").content.decode()
    row.delete()


def test_only_what_the_caller_may_see_is_counted(root: User) -> None:
    fill(days=2, tasks=40)
    vera = User.objects.create_user("vera@example.com", "a-long-password")
    WorkspaceGrant.objects.create(user=vera, pattern="w7", role=Role.VIEWER)

    told = costs_of(vera).json()

    assert {row["workspace"] for row in told["tasks"]} == {"w7"}
    assert told["total"]["answers"] == 2 * 2 * 2 * 3
    assert costs_of(vera, workspace="w8").status_code == 404
    vera.delete()


@pytest.mark.long
def test_a_year_of_many_tasks_takes_two_queries_and_a_range_of_an_index(root: User) -> None:
    fill(days=400, tasks=100)
    client = Client()
    client.force_login(root)

    with CaptureQueriesContext(connection) as asked:
        told = costs_of(root, days=30).json()
    mine = [one["sql"] for one in asked.captured_queries if "agents_spending" in one["sql"]]

    assert len(mine) == 2 and len(told["days"]) == 60 and len(told["tasks"]) == 100
    for statement in mine:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN " + statement)
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "agents_spending_once" in plan and "Seq Scan" not in plan, plan
    with CaptureQueriesContext(connection) as shown:
        page = client.get("/admin/").content.decode()
    assert len([one for one in shown.captured_queries if "agents_spending" in one["sql"]]) == 2
    assert "Cost of agents" in page and "and others that cost less" in page


@pytest.mark.long
def test_the_cheaper_tasks_are_left_out_and_that_is_said(root: User) -> None:
    fill(days=1, tasks=120)

    told = costs_of(root).json()

    assert len(told["tasks"]) == 100 and told["has_more_tasks"] is True


@pytest.mark.sample(6)
@pytest.mark.parametrize("days", ["0", "367", "-1", "1.5", "x", "٣"])
def test_a_wrong_number_of_days_is_refused(root: User, days: str) -> None:
    answer = costs_of(root, days=days)

    assert answer.status_code == 400
    assert answer.json()["error"] == "days must be a whole number between 1 and 366"


@pytest.mark.long
def test_nothing_is_shown_where_there_are_no_agents(root: User) -> None:
    client = Client()
    client.force_login(root)

    assert "Cost of agents" not in client.get("/admin/").content.decode()


def test_old_days_are_forgotten(root: User) -> None:
    fill(days=3, tasks=1)
    Spending.objects.filter(day=datetime.now(UTC).date()).update(
        day=datetime.now(UTC).date() - timedelta(days=spending.KEPT_DAYS + 1)
    )

    assert spending.forget_old() == 2 and Spending.objects.count() == 4


@pytest.mark.long
def test_the_limit_of_a_day_counts_removed_jobs(tmp_path: Path, service: Service) -> None:
    service.answers(say("Hello!"))
    space = workspace(tmp_path, FLOW)
    bench = Bench(service.settings(), daily=Limits(tokens=100))
    first = start(space)
    bench.work()

    ports.removed([first.id])
    second = start(space)
    bench.work()

    assert not Conversation.objects.filter(job_id=first.id).exists()
    assert "limit of a day is reached" in step_of(second).error and len(service.seen) == 1


@pytest.mark.long
def test_removed_jobs_count_for_a_day(tmp_path: Path, service: Service) -> None:
    converse(tmp_path, service)
    before = spending.spent_today()
    assert (before.turns, before.tokens) == (3, 330) and before.cost > 0
    Turn.objects.filter(conversation__provider="anthropic").update(
        answered_at=datetime.now(UTC) - timedelta(hours=25)
    )

    ports.removed(list(Job.objects.values_list("id", flat=True)))

    kept = spending.spent_today()
    assert not Turn.objects.exists() and (kept.turns, kept.tokens) == (2, 220)
    RemovedSpending.objects.update(at=datetime.now(UTC) - timedelta(hours=25))
    assert spending.spent_today().turns == 0
    assert spending.forget_old() == 1 and not RemovedSpending.objects.exists()


@pytest.mark.long
def test_conversations_of_an_older_version_are_counted(
    tmp_path: Path, service: Service, root: User
) -> None:
    converse(tmp_path, service)
    before = list(
        Spending.objects.order_by("task_name").values_list("task_name", "answers", "cost")
    )
    try:
        MigrationExecutor(connection).migrate([("agents", "0001_initial")])
    finally:
        newest = MigrationExecutor(connection)
        newest.migrate(newest.loader.graph.leaf_nodes("agents"))

    after = list(Spending.objects.order_by("task_name").values_list("task_name", "answers", "cost"))
    assert after == before and Turn.objects.count() == 3


def test_no_condition_means_everything(root: User) -> None:
    fill(days=1, tasks=1)

    assert spending.costs(Q(), 1, now=datetime.now(UTC)).total.answers == 6
