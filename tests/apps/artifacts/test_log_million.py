"""A million lines: moved in bounded memory, read back whole, the first page at once."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.accounts.models import Role
from apps.artifacts.logs import standing
from apps.jobs.log import cursors, search, tails
from apps.jobs.log.cursors import EVERYTHING, Choice, Cursor, Whose
from apps.jobs.models import Job, Step
from tests.apps.api.callers import caller
from tests.apps.artifacts.logkeeping import FLOW, age, lines_here
from tests.apps.artifacts.test_logs import streamed
from tests.apps.jobs.builders import Hand, start, workspace
from tests.house import database_url

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(1800)]
LINES, EACH = 1_000_000, 100
MOST_MEMORY_MB = 100  # beyond what the process takes to start
MOVER = """
import json, re, time, uuid
import django
django.setup()
from apps.artifacts.logs import rounds
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before, began = peak(), time.monotonic()
moved = rounds.go_round(uuid.uuid4())
print(json.dumps({"moved": moved, "s": time.monotonic() - began, "before": before, "peak": peak()}))
"""


def fill(job: Job) -> str:
    """The digest of all lines."""
    steps = list(Step.objects.filter(job_id=job.pk).order_by("name").values_list("pk", "name"))
    dice, digest = random.Random(7), hashlib.sha256()
    words = [f"{dice.getrandbits(40):x}" for _ in range(5_000)]
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY jobs_logchunk (day, attempt_id, seq, job_id, step_id, lines, line_count, at) FROM STDIN"
        ) as copy,
    ):
        for batch in range(LINES // EACH):
            step_id, name = steps[batch % len(steps)]
            lines = "".join(
                json.dumps(
                    {
                        "ts": f"2026-03-01T12:{batch // 200 % 60:02}:{number % 60:02}.{number:03}Z",
                        "stream": "stdout", "step": name,
                        "line": f"{batch * EACH + number} {' '.join(dice.choices(words, k=8))}",
                    }
                ) + "\n"
                for number in range(EACH)
            )  # fmt: skip
            digest.update(lines.encode())
            copy.write_row(
                ("2026-03-01", 1, batch, job.pk, step_id, lines, EACH, "2026-03-01 12:00:00+00")
            )
    return digest.hexdigest()


def timed(what: str, function: Any) -> Any:
    began = time.perf_counter()
    found = function()
    print(f"{what}: {time.perf_counter() - began:.3f} s")
    return found


def test_a_million_lines(directory: Path, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW))
    Hand().work()
    digest = timed("filled", lambda: fill(job))
    age(job)
    last = Step.objects.get(job_id=job.pk, name="test")
    of_step = Choice.of(Whose.STEP, last.pk)
    live_page = timed("page from the database", lambda: streamed(job, EVERYTHING))
    live_find = timed("search in the database", lambda: found(job))

    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "stroem_project.settings",
        "STROEM__DB__URL": database_url(),
        "STROEM__STORAGE__PATH": str(directory),
    }
    done = subprocess.run(
        [sys.executable, "-c", MOVER], env=env, stdout=subprocess.PIPE, check=True
    )
    said = json.loads(done.stdout)
    print(said, standing.sizes())
    assert said["moved"] == LINES and lines_here(job) == 0
    assert said["peak"] - said["before"] < MOST_MEMORY_MB

    page = timed("page from the storage", lambda: streamed(job, EVERYTHING))
    assert page == live_page
    timed("page of a step", lambda: streamed(job, of_step))
    client = caller(Role.VIEWER)
    path = f"/api/jobs/{job.pk}/logs"
    timed("first piece over the API", lambda: client.get(path))
    middle = tails.piece(job.pk, EVERYTHING, 0)[0].id + LINES // EACH // 2
    timed("a piece from the middle", lambda: client.get(f"{path}?after={middle}"))
    assert timed("read back", lambda: read_back(job)) == digest
    timed("one call of search", lambda: client.get(f"{path}/search?q=nowhere"))
    assert timed("search through all", lambda: found(job)) == live_find


def read_back(job: Job) -> str:
    digest, cursor, has_more = hashlib.sha256(), Cursor(), True
    while has_more:
        piece = cursors.read([job.pk], cursor)
        for _, lines in piece.chunks:
            digest.update(lines.encode())
        cursor, has_more = piece.next, piece.has_more
    return digest.hexdigest()


def found(job: Job) -> list[str]:
    place, lines = search.Place(), []
    while True:
        answer = search.find(job.pk, EVERYTHING, "77777 ", place, 100)
        lines += [hit.line for hit in answer.hits]
        if answer.stopped == search.Stop.END:
            return lines
        place = answer.next
