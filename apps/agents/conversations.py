"""Conversations between rows and memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from apps.agents.models import Call, Conversation, Turn
from apps.jobs.database.sql import fetch_one, storable
from apps.jobs.flow.contexts import redact, reveal, seal_with
from engine.agents import dialogue as values
from engine.agents.dialogue import Answer, Dialogue, Usage, Wanted
from engine.agents.limits import Spent
from engine.lifecycle import CallStatus

AGE = """
SELECT extract(epoch FROM clock_timestamp() - created_at)::float - waited_s
    - coalesce(extract(epoch FROM clock_timestamp() - asked_at)::float, 0)
FROM agents_conversation WHERE id = %s
"""
LONGEST_SHOWN = 20_000  # letters of a note or a text in a column


def read(row: Conversation) -> Dialogue:
    """The whole conversation, in clear."""
    opening, _ = reveal(row.opening_sealed)
    calls: dict[int, list[values.Call]] = {}
    for call in Call.objects.filter(conversation=row).order_by("seq", "index"):
        calls.setdefault(call.seq, []).append(_call(call))
    turns = [
        values.Turn(
            turn.seq,
            turn.note,
            turn.is_last,
            None if turn.answer_sealed is None else answer_of(turn.answer_sealed),
            tuple(calls.get(turn.seq, ())),
        )
        for turn in Turn.objects.filter(conversation=row).order_by("seq")
    ]
    return Dialogue(
        row.pk,
        f"{row.job_id}-{row.pk}",
        opening["system"],
        opening["prompt"],
        tuple(turns),
        spent(row, turns),
        row.stints,
        row.raised,
        row.no_more,
    )


def spent(row: Conversation, turns: Sequence[values.Turn]) -> Spent:
    """What the conversation has used. Refused calls do not count."""
    answers = [turn.answer for turn in turns if turn.answer is not None]
    made = [
        call for turn in turns for call in turn.calls
        if call.status in (CallStatus.BEGUN, CallStatus.DONE, CallStatus.FAILED)
    ]  # fmt: skip
    found = fetch_one(AGE, (row.pk,))
    return Spent(
        turns=len(answers),
        tokens=sum(answer.usage.tokens_in + answer.usage.tokens_out for answer in answers),
        cost=sum(answer.usage.cost or 0.0 for answer in answers),
        tool_calls=len(made),
        time=max(0.0, found[0]) if found else 0.0,
        unpriced=sum(answer.usage.cost is None for answer in answers),
    )


def _call(row: Call) -> values.Call:
    return values.Call(
        row.index, row.call_id, row.tool, arguments_of(row), CallStatus(row.status), row.result,
        row.child_job_id is not None,
    )  # fmt: skip


def arguments_of(row: Call) -> Any:
    """What the tool is called with, in clear."""
    return row.arguments if row.arguments_sealed is None else reveal(row.arguments_sealed)[0]


def seal_answer(answer: Answer, masks: Sequence[str]) -> bytes:
    return seal_with(dataclasses.asdict(answer), masks)


def answer_of(sealed: bytes | memoryview) -> Answer:
    """An answer from its sealed form; unknown keys are those of a newer version."""
    data, _ = reveal(sealed)
    known = {field.name for field in dataclasses.fields(Answer)}
    plain: dict[str, Any] = {key: value for key, value in data.items() if key in known}
    plain["calls"] = tuple(Wanted(**call) for call in plain.get("calls", ()))
    plain["usage"] = Usage(**plain.get("usage", {}))
    return Answer(**plain)


def shown(answer: Answer, masks: tuple[str, ...]) -> dict[str, Any]:
    """An answer as people see it."""
    calls = [{"tool": call.tool, "arguments": call.arguments} for call in answer.calls]
    content: dict[str, Any] = {"text": answer.text[:LONGEST_SHOWN], "calls": calls}
    if answer.has_output:
        content["output"] = answer.output
    return dict(redact(content, masks))


def digest_of(tool: str, arguments: Any) -> str:
    """What is approved, and may be made once."""
    told = json.dumps([tool, arguments], sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def storable_json(value: Any) -> Any:
    """A JSON value without what the database cannot store."""
    match value:
        case str():
            return storable(value)
        case list() | tuple():
            return [storable_json(item) for item in value]
        case dict():
            return {storable(str(key)): storable_json(item) for key, item in value.items()}
        case float() if not math.isfinite(value):
            return None
    return value
