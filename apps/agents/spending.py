"""What conversations cost: one row a day, task and provider, so that no reader ever adds up turns.

Days are in UTC. The rows outlive the conversations, which go with their jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet, Sum

from apps.agents.models import Spending
from apps.jobs.database.sql import fetch, fetch_one
from engine.agents.dialogue import Usage
from engine.agents.limits import Spent

KEPT_DAYS = 400
MOST_TASKS = 100
# The last statement of its transaction: conversations of one task wait here for each other.
NOTE = """
INSERT INTO agents_spending AS s (day, workspace, task_name, provider, answers, unpriced,
    tokens_in, tokens_out, cached, cost)
SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, workspace, task_name, provider, 1,
    (%(cost)s::numeric IS NULL)::int, %(tokens_in)s, %(tokens_out)s, %(cached)s,
    coalesce(%(cost)s::numeric, 0)
FROM agents_conversation WHERE id = %(id)s
ON CONFLICT (day, workspace, task_name, provider) DO UPDATE SET
    answers = s.answers + 1, unpriced = s.unpriced + excluded.unpriced,
    tokens_in = s.tokens_in + excluded.tokens_in, tokens_out = s.tokens_out + excluded.tokens_out,
    cached = s.cached + excluded.cached, cost = s.cost + excluded.cost
RETURNING 1
"""
KEEP = """
INSERT INTO agents_removedspending (at, answers, unpriced, tokens, cost)
SELECT max(t.answered_at), count(*), count(*) FILTER (WHERE t.cost IS NULL),
    sum(t.tokens_in + t.tokens_out), coalesce(sum(t.cost), 0)
FROM agents_turn t JOIN agents_conversation v ON v.id = t.conversation_id
WHERE v.job_id = ANY(%s) AND t.answered_at > clock_timestamp() - interval '24 hours'
HAVING count(*) > 0
"""
TODAY = """
SELECT sum(answers)::bigint, sum(unpriced)::bigint, sum(tokens)::bigint, sum(cost)::float FROM (
    SELECT count(*), count(*) FILTER (WHERE cost IS NULL), sum(tokens_in + tokens_out), sum(cost)
    FROM agents_turn WHERE answered_at > clock_timestamp() - interval '24 hours'
    UNION ALL
    SELECT sum(answers), sum(unpriced), sum(tokens), sum(cost)
    FROM agents_removedspending WHERE at > clock_timestamp() - interval '24 hours'
) taken (answers, unpriced, tokens, cost)
"""
FORGET_REMOVED = """
DELETE FROM agents_removedspending WHERE at < clock_timestamp() - interval '24 hours' RETURNING 1
"""
FORGET = """
DELETE FROM agents_spending
WHERE day < (clock_timestamp() AT TIME ZONE 'UTC')::date - %s::int RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What some answers took together. `cost` in US dollars, of the answers with a known price."""

    answers: int = 0
    unpriced: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_cached: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class DayCost:
    day: date
    provider: str
    spent: Cost


@dataclass(frozen=True, slots=True)
class TaskCost:
    workspace: str
    task_name: str
    spent: Cost


@dataclass(frozen=True, slots=True)
class Costs:
    """From `since` on, to the end of `until`. `days`: one entry a day and provider, where there
    was one; `tasks`: the dearest first; `has_more`: others were cheaper."""

    since: date
    until: date
    days: tuple[DayCost, ...]
    tasks: tuple[TaskCost, ...]
    has_more: bool

    @property
    def total(self) -> Cost:
        return together(one.spent for one in self.days)

    @property
    def providers(self) -> list[tuple[str, Cost]]:
        """The dearest first."""
        names = {one.provider for one in self.days}
        found = [
            (name, together(one.spent for one in self.days if one.provider == name))
            for name in names
        ]
        return sorted(found, key=lambda row: (-row[1].cost, -row[1].answers, row[0]))


def note(conversation_id: int, usage: Usage) -> None:
    """Add an answer to the row of its day, task and provider."""
    params = {
        "id": conversation_id,
        "tokens_in": usage.tokens_in,
        "tokens_out": usage.tokens_out,
        "cached": usage.cached,
        "cost": usage.cost,
    }
    fetch(NOTE, params)


def together(costs: Iterable[Cost]) -> Cost:
    rows = list(costs)
    return Cost(
        sum(row.answers for row in rows),
        sum(row.unpriced for row in rows),
        sum(row.tokens_in for row in rows),
        sum(row.tokens_out for row in rows),
        sum(row.tokens_cached for row in rows),
        round(sum(row.cost for row in rows), 8),
    )


def costs(seen: Q, days: int, *, now: datetime, most_tasks: int = MOST_TASKS) -> Costs:
    """Of the last `days` days, today included. `seen`: a condition on `workspace`. Two
    queries; one where there is nothing."""
    until = now.astimezone(UTC).date()
    since = until - timedelta(days=days - 1)
    rows = Spending.objects.filter(seen, day__gte=since, day__lte=until)
    by_day = tuple(
        DayCost(day, provider, _cost(*told))
        for day, provider, *told in _summed(rows, "day", "provider").order_by("day", "provider")
    )
    if not by_day:
        return Costs(since, until, (), (), has_more=False)
    dearest = _summed(rows, "workspace", "task_name").order_by(
        "-all_cost", "-all_answers", "workspace", "task_name"
    )
    tasks = [
        TaskCost(place, task, _cost(*told)) for place, task, *told in dearest[: most_tasks + 1]
    ]
    return Costs(since, until, by_day, tuple(tasks[:most_tasks]), len(tasks) > most_tasks)


def _summed(rows: QuerySet[Spending], *by: str) -> Any:
    """One row each, with the sums in the order of `_cost`."""
    names = ("answers", "unpriced", "tokens_in", "tokens_out", "cached", "cost")
    return rows.values_list(*by).annotate(**{f"all_{name}": Sum(name) for name in names})


def _cost(
    answers: int, unpriced: int, tokens_in: int, tokens_out: int, cached: int, cost: Decimal
) -> Cost:
    # Sums of whole numbers come as decimals.
    return Cost(
        int(answers), int(unpriced), int(tokens_in), int(tokens_out), int(cached), float(cost)
    )


def keep(job_ids: Sequence[UUID]) -> None:
    """Note what conversations took in the last 24 hours, before they are removed."""
    fetch(KEEP, (list(job_ids),))


def spent_today() -> Spent:
    """What all conversations of the last 24 hours have used together, also removed ones."""
    row = fetch_one(TODAY, ())
    answers, unpriced, tokens, cost = row if row is not None else (0, 0, 0, 0.0)
    return Spent(turns=answers, tokens=tokens or 0, cost=cost or 0.0, unpriced=unpriced)


def forget_old() -> int:
    """Remove the rows of days long past."""
    return len(fetch(FORGET, (KEPT_DAYS,))) + len(fetch(FORGET_REMOVED, ()))
