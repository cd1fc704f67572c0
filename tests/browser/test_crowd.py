"""Fifty people watch one busy job: all see every line once, and the job is not slowed down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from apps.jobs.models import Attempt, Job
from tests.browser.stage import Stage
from tests.browser.test_live import Stream

READERS = 50
RESTLESS = 10  # of them lose their connection repeatedly
LINES, MINUTE_S = 10_000, 60.0

# Enough work between lines for 10,000 of them to take a minute on one processor.
FLOW = """
actions:
  busy:
    type: script
    language: python
    input: { rounds: { type: integer, required: true }, lines: { type: integer, required: true } }
    script: |
      import os, sys
      rounds, lines = int(os.environ["STROEM_INPUT_ROUNDS"]), int(os.environ["STROEM_INPUT_LINES"])
      value = 1
      for line in range(1, lines + 1):
          for _ in range(rounds):
              value = value * 1103515245 + 12345 & 0x7FFFFFFF
          print(f"line {line} of a busy step, which says about as much as programs say", flush=True)
      print("end", flush=True)
tasks:
  busy:
    input: { rounds: { type: integer, default: 1 }, lines: { type: integer, default: 1 } }
    flow: { busy: { action: busy, input: { rounds: "{{ input.rounds }}", lines: "{{ input.lines }}" } } }
"""


class Watcher(threading.Thread):
    """Reads as a page does: skips batches that it has seen, and resumes a lost connection behind
    the last one."""

    def __init__(self, stage: Stage, job: Job, *, is_restless: bool) -> None:
        super().__init__(daemon=True)
        self.stage, self.job, self.is_restless = stage, job, is_restless
        self.lines: list[str] = []
        self.repeated = 0
        self.error: Exception | None = None
        self.cookie = stage.cookie(stage.vera)
        self.stream = self.connected(None)

    def connected(self, last_id: int | None) -> Stream:
        return Stream(self.stage, self.job, self.stage.vera, last_id=last_id, cookie=self.cookie)

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:  # reported to the test, which is another thread
            self.error = error

    def _read(self) -> None:
        seen: set[int] = set()
        while "end" not in self.lines[-200:]:
            name, data, number = self.stream.event()
            if name != "log" or number is None:
                continue
            if number in seen:
                self.repeated += 1
                continue
            seen.add(number)
            self.lines += [
                record["line"] for record in data["lines"] if record["step"] != "_server"
            ]
            if self.is_restless and len(seen) % 25 == 0:
                self.stream.close()
                self.stream = self.connected(max(seen))


@contextmanager
def nobody(stage: Stage, job: Job) -> Iterator[list[Watcher]]:
    yield []


@contextmanager
def a_crowd(stage: Stage, job: Job) -> Iterator[list[Watcher]]:
    asleep = Stream(stage, job, stage.vera)  # connects and never reads
    watchers = [Watcher(stage, job, is_restless=number < RESTLESS) for number in range(READERS)]
    for watcher in watchers:
        watcher.start()
    try:
        yield watchers
    finally:
        asleep.close()
        for watcher in watchers:
            watcher.stream.close()


def run(stage: Stage, watched: Any, rounds: int, lines: int) -> float:
    """How long the step took, in seconds."""
    job = stage.start("busy", None, "crowd", rounds=rounds, lines=lines)
    stage.until_step(job, "busy", "running", "completed")
    with watched(stage, job) as watchers:
        deadline = time.monotonic() + 600
        while Job.objects.get(pk=job.pk).status == "running" and time.monotonic() < deadline:
            time.sleep(0.5)
        assert Job.objects.get(pk=job.pk).status == "completed"
        for watcher in watchers:
            watcher.join(60)
            assert watcher.error is None, watcher.error
            assert not watcher.is_alive()
            said = [line for line in watcher.lines if line.startswith("line ")]
            assert len(said) == len(set(said)) == lines, "each line once"
            assert said == sorted(said, key=lambda line: int(line.split()[1])), (
                "in the order of printing"
            )
            assert watcher.is_restless or watcher.repeated == 0
    attempt = Attempt.objects.get(job_id=job.pk)
    assert attempt.started_at is not None and attempt.ended_at is not None
    return (attempt.ended_at - attempt.started_at).total_seconds()


def test_some_watch_a_busy_step_and_each_sees_every_line_once(stage: Stage) -> None:
    stage.workspace("crowd", FLOW)
    run(stage, a_crowd, rounds=100, lines=3_000)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fifty_readers_of_10_000_lines_a_minute_cost_the_step_no_third_of_its_time(
    stage: Stage,
) -> None:
    if not stage.has("crowd"):
        stage.workspace("crowd", FLOW)
    probe = run(stage, nobody, rounds=20_000, lines=300)
    rounds = round(20_000 * MINUTE_S / LINES / (probe / 300))
    alone, watched = [], []
    for _ in range(2):
        alone.append(run(stage, nobody, rounds, LINES))
        watched.append(run(stage, a_crowd, rounds, LINES))
    print(f"alone {alone}, with {READERS} readers {watched}: x {min(watched) / min(alone):.2f}")
    assert min(watched) <= 1.3 * min(alone)
