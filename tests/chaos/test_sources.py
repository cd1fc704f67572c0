"""Every event that a consumer was told is safe became one job, whatever was killed meanwhile."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import yaml

from standalone.embedded import postgres
from standalone.embedded.folders import temporary_folders
from standalone.supervision.lifeline import Lifeline
from tests.apps.jobs.builders import until
from tests.house import House

EVENTS = int(os.environ.get("STROEM_TEST_EVENTS", "10000"))
KILL_EVERY_S, AWAY_S = 3.0, 4.0
CONSUMER = """
import json, os, sys
folder = "FOLDER/"
open(folder + "pid", "w").write(str(os.getpid()))
try:
    number = int(open(folder + "next").read())
except FileNotFoundError:
    number = 0
acked = open(folder + "acked", "a", buffering=1)
while number < MOST:
    print("OUTPUT:", json.dumps({"n": number, "_event": {"id": number, "reply": True}}), flush=True)
    answer = sys.stdin.readline()
    if answer != f"ok {number}\\n":
        sys.exit(f"no answer to {number}: {answer!r}")
    acked.write(f"{number}\\n")
    number += 1
    open(folder + "next.new", "w").write(str(number))
    os.rename(folder + "next.new", folder + "next")
open(folder + "done", "w").close()
sys.stdin.read()
"""
FLOW = """
tasks:
  count: {flow: {count: {type: script, language: python, interpreter: python3, source: count.py}}}
  main:
    input: {n: {type: integer}}
    flow: {work: {type: script, script: "true", tags: [elsewhere]}}
triggers:
  numbers: {type: event_source, task: count, target_task: main, backoff_secs: 1}
"""


class Place:
    """A durable database of its own, which can be stopped, and the processes on it."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.lifeline = Lifeline()
        store, sockets = temporary_folders(self.lifeline)
        self.cluster = postgres.Cluster(store, sockets)
        postgres.prepare(self.cluster)
        self.log = store / "database.log"
        self.start_database()
        postgres.create_database(self.cluster)
        self.url, self.folder = self.cluster.url(), folder
        self.house = House(folder, env | {"STROEM__DB__URL": self.url}, heartbeat_timeout_secs=10)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start_database(self) -> None:
        self.database = self.lifeline.spawn(postgres.program(self.cluster, self.log))
        self.database.wait_until_ready()

    def stop_database(self) -> None:
        self.database.stop()

    def run(self, *command: str) -> None:
        assert self.house.start(*command).wait(120) == 0, self.words(command[0])

    def words(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()[-2000:]

    def work(self, name: str) -> None:
        config = self.folder / f"{name}.yaml"
        own = {
            "worker_name": name, "max_concurrent": 2, "tags": ["script"],
            "workspace_cache_dir": str(self.folder / name),
        }  # fmt: skip
        config.write_text(yaml.safe_dump(own))
        self.workers[name] = self.house.start("worker", "--config", str(config), name=name)

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement).fetchall()

    def close(self) -> None:
        self.house.close()
        self.database.stop()
        self.lifeline.close()


@pytest.fixture
def place(tmp_path: Path, broker_url: str) -> Iterator[Place]:
    found = Place(tmp_path, {**os.environ, "STROEM__BROKER__URL": broker_url})
    yield found
    found.close()


def _files(folder: Path) -> Path:
    files = folder / "numbers"
    files.mkdir()
    (files / "flow.yaml").write_text(FLOW)
    code = CONSUMER.replace("FOLDER", str(folder)).replace("MOST", str(EVENTS))
    (files / "count.py").write_text(code)
    return files


def _acked(folder: Path) -> list[int]:
    path = folder / "acked"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_acknowledged_event_is_one_job_whatever_is_killed(
    place: Place, tmp_path: Path
) -> None:
    place.run("migrate")
    place.run("import_workspace", "numbers", str(_files(tmp_path)))
    place.house.scheduler()
    for name in ("one", "two"):
        place.work(name)
    stops, kills = [EVENTS // 3, 2 * EVENTS // 3], Counter[str]()
    began = time.monotonic()
    for turn in itertools.count():
        with suppress(AssertionError):  # nothing is waited for but the end
            until((tmp_path / "done").exists, within_s=KILL_EVERY_S, every_s=0.1)
            break
        assert time.monotonic() - began < EVENTS / 5, (len(_acked(tmp_path)), kills)
        if stops and len(_acked(tmp_path)) >= stops[0]:
            stops.pop(0)
            place.stop_database()
            time.sleep(AWAY_S)
            place.start_database()
            kills["database"] += 1
        elif turn % 3 == 2:
            name = ("one", "two")[turn // 3 % 2]
            place.house.kill(place.workers[name], tree=True)
            place.work(name)
            kills["worker"] += 1
        elif (tmp_path / "pid").exists():
            with suppress(ProcessLookupError):
                os.kill(int((tmp_path / "pid").read_text() or 0), signal.SIGKILL)
                kills["consumer"] += 1
    took = time.monotonic() - began

    rows = place.ask("SELECT input->>'n' FROM jobs_job WHERE source_type = 'event_source'")
    made = Counter(int(str(number)) for (number,) in rows)
    acked = set(_acked(tmp_path))
    assert acked == set(range(EVENTS))
    assert set(made) == acked and set(made.values()) == {1}
    assert kills["database"] == 2 and kills["consumer"] > 1 and kills["worker"] > 0
    firings = place.ask("SELECT status, count(*) FROM triggers_firing GROUP BY status")
    assert firings == [("started", EVENTS)]
    alive = place.ask(
        "SELECT count(*) FROM jobs_job WHERE source_type = 'consumer'"
        " AND status IN ('pending', 'running')"
    )
    assert alive == [(1,)]
    print(f"{EVENTS} events in {took:.0f} s; killed: {dict(kills)}")
