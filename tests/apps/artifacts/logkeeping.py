"""Jobs with lines, and their way into the storage."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from django.db import connection

from apps.artifacts.logs import rounds
from apps.jobs import ledger
from apps.jobs.models import Job
from engine.orders import Line
from tests.apps.jobs.builders import Hand

FLOW = """
tasks:
  main:
    flow:
      build: {type: script, script: "true"}
      test: {type: script, script: "true"}
  fails: {flow: {build: {type: script, script: "true"}}}
  calls: {flow: {call: {type: task, task: main}}}
"""
# the time of the first line of each job; all others are a second later than the one before
_times = itertools.count(1_700_000_000)


def print_lines(claim: ledger.Claim, texts: Sequence[str], *, each: int = 2) -> None:
    """In batches of `each` lines."""
    for seq, start in enumerate(range(0, len(texts), each), 1):
        batch = [Line(next(_times), "stdout", text) for text in texts[start : start + each]]
        assert ledger.append(claim, seq, batch)


def run(job: Job, hand: Hand, **texts: Sequence[str]) -> None:
    """Run the job's steps to their end, printing these lines."""
    claims = {name: take(job, hand, name) for name in texts}
    for name, claim in claims.items():
        assert hand.start(claim)
        print_lines(claim, texts[name])
    for claim in claims.values():
        hand.finish(claim)


def take(job: Job, hand: Hand, name: str) -> ledger.Claim:
    """The step of this job; what other jobs have ready is given back."""
    found, others = hand.take(name), []
    while found.job_id != job.pk:
        others.append(found)
        found = hand.take(name)
    for other in others:
        ledger.give_back(other)
    return found


def age(job: Job, days: float = 1) -> None:
    """Let the job, if it has ended, and its lines be so old."""
    with connection.cursor() as cursor:
        back = f"- interval '{days} days'"
        cursor.execute(
            f"UPDATE jobs_job SET completed_at = completed_at {back} WHERE id = %s", [job.pk]
        )
        cursor.execute(f"UPDATE jobs_logchunk SET at = at {back} WHERE job_id = %s", [job.pk])


def move() -> int:
    return rounds.go_round(uuid4())


def lines_here(job: Job) -> int:
    """How many batches are still in the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM jobs_logchunk WHERE job_id = %s", [job.pk])
        return int(cursor.fetchone()[0])


def texts_of(logs: str) -> list[str]:
    return [json.loads(line)["line"] for line in logs.split("\n") if line]


def numbered(word: str, count: int) -> list[str]:
    return [f"{word} {number}" for number in range(count)]


def get(client: Any, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()
