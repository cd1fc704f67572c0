"""Whoever is killed while lines move: each line is in one place, whole, once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from django.db.models.functions import Now

from apps.accounts.models import Role
from apps.artifacts.models import LogFrame, LogRound
from apps.jobs.models import Job
from tests.apps.api.callers import caller
from tests.apps.artifacts.logkeeping import (
    FLOW,
    age,
    get,
    lines_here,
    move,
    numbered,
    run,
    texts_of,
)  # fmt: skip
from tests.apps.jobs.builders import Hand, start, workspace
from tests.house import database_url

pytestmark = pytest.mark.django_db(transaction=True)
# Reads names of places; for each, a child process moves lines and is killed there.
KILLED = """
import os, signal, sys, uuid
import django
django.setup()
from apps.artifacts import blobs, stores
from apps.artifacts.logs import moving, rounds
from apps.artifacts.models import JobLog, LogFrame
from apps.jobs.log import moving as here

moving.FRAME_BYTES, moving.VOLUME_BYTES = 1000, 3000
PLACES = {
    "before": (blobs, "put"),
    "bytes": (blobs, "_finish"),
    "stored": (moving, "_move"),
    "held": (here, "forget"),
    "forgotten": (LogFrame.objects, "bulk_create"),
    "written": (JobLog.objects, "bulk_create"),
}

def arm(place, after):
    owner, name = PLACES[place]
    usual, left = getattr(owner, name), [after]
    def dies(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(*args, **options)
    setattr(owner, name, dies)

me = uuid.uuid4()
for line in sys.stdin:
    place, after = line.split()
    child = os.fork()
    if child == 0:
        arm(place, int(after))
        rounds.go_round(me)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""
WHERE = [("before", 0), ("bytes", 0), ("stored", 0), ("held", 0), ("forgotten", 0), ("written", 0),
         ("stored", 1), ("bytes", 1), ("forgotten", 1), ("stored", 1)]  # fmt: skip


@pytest.fixture
def mover(directory: Path) -> Iterator[subprocess.Popen[str]]:
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "stroem_project.settings",
        "STROEM__DB__URL": database_url(),
        "STROEM__STORAGE__PATH": str(directory),
    }
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        yield process
        process.kill()


def kill_at(mover: subprocess.Popen[str], place: str, after: int) -> bool:
    pipes: tuple[IO[str] | None, IO[str] | None] = (mover.stdin, mover.stdout)
    assert pipes[0] and pipes[1]
    pipes[0].write(f"{place} {after}\n")
    pipes[0].flush()
    return int(pipes[1].readline()) == 9


@pytest.mark.long
def test_each_line_is_there_once_wherever_the_mover_is_killed(
    mover: subprocess.Popen[str], tmp_path: Path
) -> None:
    home, hand, jobs = workspace(tmp_path, FLOW), Hand(), list[Job]()
    for number in range(4):
        job = start(home)
        run(job, hand, build=numbered(f"b{number}", 30), test=numbered(f"t{number}", 30))
        age(job)
        jobs.append(job)
    client = caller(Role.VIEWER)

    def lines(job: Job) -> list[str]:
        return texts_of(get(client, f"/api/jobs/{job.pk}/logs")["logs"])

    before = [lines(job) for job in jobs]
    assert [len(one) for one in before] == [60] * 4
    moved = []
    for place, after in WHERE:
        assert kill_at(mover, place, after), f"nobody was killed at {place}"
        assert [lines(job) for job in jobs] == before, f"killed at {place}"
        moved.append(LogFrame.objects.count())
    assert moved[5] == 0 and moved[-1] > moved[6] > 0  # some had moved when the others died
    LogRound.objects.update(held_until=Now())  # the turn of the killed one runs out
    move()
    assert [lines(job) for job in jobs] == before
    assert sum(map(lines_here, jobs)) == 0
