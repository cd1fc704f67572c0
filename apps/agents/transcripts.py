"""Conversations as people read them: in parts, cut, with secrets masked.

Everything in them that a model or a tool wrote is plain text, and nobody should render it as
anything else. What is cut is cut by the database: a page never loads what it does not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_named, statement
from engine.agents.limits import MOST_TURNS

TURNS = statement(__file__, "turns")
CALLS = statement(__file__, "calls")
RUNS = """
SELECT id, provider, model, created_at, waited_s, asked_at, parked_fence IS NOT NULL AS is_parked,
    left(opening->>'system', %(long)s) AS system, length(opening->>'system') AS system_size,
    left(opening->>'prompt', %(long)s) AS prompt, length(opening->>'prompt') AS prompt_size,
    rank, count
FROM (
    SELECT *, row_number() OVER (ORDER BY id) AS rank, count(*) OVER () AS count
    FROM agents_conversation WHERE step_id = %(step)s
) v
WHERE rank = coalesce(%(run)s, count)
"""
SPENT = """
SELECT count(*) AS turns, count(answered_at) AS answers, coalesce(sum(tokens_in), 0) AS tokens_in,
    coalesce(sum(tokens_out), 0) AS tokens_out, coalesce(sum(cached), 0) AS tokens_cached,
    CASE WHEN count(cost) = count(answered_at) THEN coalesce(sum(cost), 0)::float END AS cost,
    coalesce(sum(latency_s), 0) AS latency_s,
    (SELECT count(*) FROM agents_call WHERE conversation_id = %(id)s AND begun_at IS NOT NULL)
        AS tool_calls,
    max(answered_at) AS last_at
FROM agents_turn WHERE conversation_id = %(id)s
"""
# Differs after every new row and after every move of a call.
MARKS = """
SELECT DISTINCT ON (v.step_id) v.step_id, concat_ws('-', v.id, v.parked_fence,
    extract(epoch FROM v.asked_at),
    (SELECT concat_ws('-', sum(asked), count(answered_at)) FROM agents_turn
        WHERE conversation_id = v.id),
    (SELECT concat_ws('-', count(*), count(begun_at), count(ended_at)) FROM agents_call
        WHERE conversation_id = v.id))
FROM agents_conversation v WHERE v.step_id = ANY(%s) ORDER BY v.step_id, v.id DESC
"""


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a turn to read: letters of one text, and tool calls."""

    letters: int
    calls: int


BRIEF = Cut(300, 6)  # a folded turn
LISTED = Cut(2_000, 20)
WHOLE = Cut(60_000, 100)


@dataclass(frozen=True, slots=True)
class Text:
    """The beginning of a text, and how many letters follow."""

    text: str
    more: int

    @classmethod
    def of(cls, text: str, size: int) -> Text:
        return cls(text, size - len(text))


@dataclass(frozen=True, slots=True)
class CallRead:
    """`arguments` is JSON as text, `result` what the model reads."""

    index: int
    tool: str
    status: str
    arguments: Text
    result: Text
    child_job_id: UUID | None
    approved_by: str
    begun_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class TurnRead:
    """`note`: what the model was told before it answered; `output`: a structured answer as JSON
    text; `calls`: the first of `calls_total`."""

    seq: int
    note: Text
    is_last: bool
    asked: int
    asked_at: datetime
    answered_at: datetime | None
    finish: str
    text: Text
    output: Text
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost: float | None
    latency_s: float
    calls: Sequence[CallRead]
    calls_total: int
    calls_open: int

    @property
    def is_cut(self) -> bool:
        texts = [self.note, self.text, self.output]
        texts += [text for call in self.calls for text in (call.arguments, call.result)]
        return self.calls_total > len(self.calls) or any(text.more for text in texts)


@dataclass(frozen=True, slots=True)
class Spent:
    """Of all turns. `cost` in US dollars; None if the price of an answer is not known."""

    turns: int
    tool_calls: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost: float | None
    latency_s: float
    waited_s: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """One run of an agent step, the `run`-th of `runs`; `turns` are a part of it.
    `asked_at`: a person is asked since then. `mark`: see `marks`."""

    id: int
    run: int
    runs: int
    provider: str
    model: str
    created_at: datetime
    last_at: datetime | None
    asked_at: datetime | None
    is_parked: bool
    system: Text
    prompt: Text
    spent: Spent
    turns: Sequence[TurnRead]
    mark: str


def read(
    step_id: int, cut: Cut, *, run: int | None = None, after: int = 0, limit: int = MOST_TURNS
) -> Transcript | None:
    """The turns after number `after` of a run, the newest without `run`; None if there is no such
    run. Five queries, however long it is."""
    marked = marks([step_id]).get(step_id, "")  # first: what comes after it is read again
    found = fetch_named(RUNS, {"step": step_id, "run": run, "long": cut.letters})
    if not found:
        return None
    (row,) = found
    (spent,) = fetch_named(SPENT, {"id": row.id})
    return Transcript(
        row.id,
        row.rank,
        row.count,
        row.provider,
        row.model,
        row.created_at,
        spent.last_at,
        row.asked_at,
        row.is_parked,
        Text.of(row.system, row.system_size),
        Text.of(row.prompt, row.prompt_size),
        Spent(
            spent.answers,
            spent.tool_calls,
            spent.tokens_in,
            spent.tokens_out,
            spent.tokens_cached,
            spent.cost,
            spent.latency_s,
            row.waited_s,
        ),
        _turns(row.id, cut, after, limit),
        marked,
    )


def _turns(conversation_id: int, cut: Cut, after: int, limit: int) -> list[TurnRead]:
    params = {
        "id": conversation_id,
        "after": after,
        "limit": limit,
        "long": cut.letters,
        "calls": cut.calls,
    }
    rows = fetch_named(TURNS, params)
    if not rows:
        return []
    calls: dict[int, list[Any]] = {}
    for one in fetch_named(CALLS, params | {"until": rows[-1].seq}):
        calls.setdefault(one.seq, []).append(one)
    return [_turn(row, calls.get(row.seq, [])) for row in rows]


def _turn(row: Any, calls: list[Any]) -> TurnRead:
    return TurnRead(
        row.seq,
        Text.of(row.note, row.note_size),
        row.is_last,
        row.asked,
        row.asked_at,
        row.answered_at,
        row.finish,
        Text.of(row.text, row.text_size),
        Text.of(row.output, row.output_size),
        row.tokens_in,
        row.tokens_out,
        row.cached,
        row.cost,
        row.latency_s,
        [_call(one) for one in calls],
        calls[0].total if calls else 0,
        calls[0].still_open if calls else 0,
    )


def _call(row: Any) -> CallRead:
    return CallRead(
        row.index,
        row.tool,
        row.status,
        Text.of(row.arguments, row.arguments_size),
        Text.of(row.result, row.result_size),
        row.child_job_id,
        row.approved_by,
        row.begun_at,
        row.ended_at,
    )


def marks(step_ids: Sequence[int]) -> dict[int, str]:
    """How far the newest conversations of these steps have got."""
    return dict(fetch(MARKS, (list(step_ids),))) if step_ids else {}
