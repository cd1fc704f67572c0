"""Logs over the API: in pieces, each line once, also for readers that follow."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from apps.jobs import ledger
from apps.jobs.transitions import moves
from engine.orders import Line
from tests.apps.api.callers import error
from tests.apps.jobs.builders import Hand, start

pytestmark = pytest.mark.django_db


def write(claim: ledger.Claim, seq: int, *texts: str) -> None:
    assert ledger.append(claim, seq, [Line(time.time(), "stdout", text) for text in texts])


def lines(answer: Any) -> list[str]:
    return [json.loads(line)["line"] for line in answer["logs"].splitlines()]


def test_logs_are_json_lines_by_job_by_step_and_of_the_server(
    shop: Any, operator: APIClient
) -> None:
    job = start(shop, name="x")
    hand = Hand()
    say = hand.take("say")
    assert hand.start(say)
    write(say, 1, "one", "two")
    hand.finish(say)
    also = hand.take("also")
    assert hand.start(also)
    write(also, 1, "three")
    moves.say(job.pk, "[server] hello", at=time.time())
    whole = operator.get(f"/api/jobs/{job.pk}/logs").json()
    assert lines(whole) == ["one", "two", "three", "[server] hello"]
    record = json.loads(whole["logs"].splitlines()[0])
    assert (record["stream"], record["step"], set(record)) == (
        "stdout",
        "say",
        {"ts", "stream", "step", "line"},
    )
    assert lines(operator.get(f"/api/jobs/{job.pk}/steps/say/logs").json()) == ["one", "two"]
    assert lines(operator.get(f"/api/jobs/{job.pk}/steps/_server/logs").json()) == [
        "[server] hello"
    ]
    answer = operator.get(f"/api/jobs/{job.pk}/steps/none/logs")
    assert (answer.status_code, error(answer)) == (404, "Step not found")


def test_a_reader_that_follows_gets_each_line_once(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="x")
    hand = Hand()
    say = hand.take("say")
    assert hand.start(say)
    seen, after = [], "0"
    for seq in range(1, 6):
        write(say, seq, f"line {seq}")
        answer = operator.get(f"/api/jobs/{job.pk}/logs?after={after}").json()
        seen += lines(answer)
        after = answer["next"]
        assert lines(operator.get(f"/api/jobs/{job.pk}/logs?after={after}").json()) == []
    assert seen == [f"line {seq}" for seq in range(1, 6)]


def test_a_chunk_that_is_committed_late_is_not_skipped(shop: Any, operator: APIClient) -> None:
    job = start(shop, name="x")
    with connection.cursor() as cursor:
        insert = (
            "INSERT INTO jobs_logchunk (day, attempt_id, seq, id, job_id, lines, line_count, at)"
            " VALUES (current_date, 7, %s, %s, %s, %s, 1, clock_timestamp() - %s * interval '1"
            " second')"
        )

        def arrive(number: int, age_s: int) -> None:
            cursor.execute(
                insert, [number, number, job.pk, json.dumps({"line": number}) + "\n", age_s]
            )

        arrive(1_000_001, 60)
        arrive(1_000_003, 1)
        first = operator.get(f"/api/jobs/{job.pk}/logs").json()
        arrive(1_000_002, 0)  # its id was assigned before 1,000,003
        second = operator.get(f"/api/jobs/{job.pk}/logs?after={first['next']}").json()
        cursor.execute("UPDATE jobs_logchunk SET at = at - interval '1 minute'")
        third = operator.get(f"/api/jobs/{job.pk}/logs?after={second['next']}").json()
    assert [lines(piece) for piece in (first, second, third)] == [
        [1_000_001, 1_000_003],
        [1_000_002],
        [],
    ]
    assert first["next"].startswith("1000001~")


def test_a_long_log_comes_in_pieces(
    shop: Any, operator: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.jobs.log import cursors

    monkeypatch.setattr(cursors, "PIECE_BYTES", 300)
    job = start(shop, name="x")
    hand = Hand()
    say = hand.take("say")
    assert hand.start(say)
    for seq in range(1, 11):
        write(say, seq, f"line {seq}")
    seen, after, more, pieces = [], "0", True, 0
    while more:
        answer = operator.get(f"/api/jobs/{job.pk}/logs?after={after}").json()
        seen, after, more, pieces = (
            seen + lines(answer),
            answer["next"],
            answer["has_more"],
            pieces + 1,
        )
    assert seen == [f"line {seq}" for seq in range(1, 11)]
    assert pieces > 3


@pytest.mark.parametrize("after", ["x", "-1", "1~x", "1~", "9" * 30, "~".join(["1"] * 600), "١"])
def test_a_cursor_that_is_none_is_refused(shop: Any, operator: APIClient, after: str) -> None:
    job = start(shop, name="x")
    answer = operator.get(f"/api/jobs/{job.pk}/logs", {"after": after})
    assert (answer.status_code, error(answer)) == (
        400,
        "after must be the `next` of an earlier answer",
    )
