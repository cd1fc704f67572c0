"""Real processes, killed where it hurts: no answer is paid twice, no tool is called twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from apps.agents.models import Conversation, Turn
from apps.jobs.models import Attempt, Job
from engine.lifecycle import FINAL_JOB
from tests.agents.bench import known_providers
from tests.agents.provider import Seen, Service, call, say, service
from tests.apps.jobs.builders import fresh, start, until, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)
from tests.house import ROOT, House, database_url

EXAMPLE = ROOT / "examples" / "agent"
TEXT = """
tasks:
  main:
    flow:
      ask:
        type: agent
        provider: openai
        prompt: "Look twice, then answer"
        tools: [{ task: look }]
  look:
    input: { n: { type: integer, required: true } }
    flow: { go: { type: script, script: "echo 'OUTPUT: {\\"seen\\": true}'" } }
"""


class Street:
    """A house with processes for agents that die."""

    def __init__(self, house: House, service: Service) -> None:
        self.house, self.service = house, service
        self.lock = threading.Lock()
        self.killed = 0
        self.repeated: list[str] = []
        self.process = self.begin()

    def begin(self) -> subprocess.Popen[bytes]:
        return self.house.start("agents", name="agents")

    def kill(self) -> None:
        """SIGKILL; the next process begins at once."""
        with self.lock:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
            self.killed += 1
            self.process = self.begin()

    def note_repeated(self, seen: Seen) -> None:
        """Remember a question whose answer is stored."""
        *_, conversation, seq = seen.key.split("-")
        with closing(connection):
            rows = Turn.objects.filter(
                conversation_id=conversation, seq=seq, answered_at__isnull=False
            )
            if rows.exists():
                self.repeated.append(seen.key)


@pytest.fixture(name="street")
def running_street(transactional_db: None, tmp_path: Path, settings: Any) -> Iterator[Street]:
    known_providers(settings)
    with service() as made:
        env = os.environ | {
            "STROEM__DB__URL": database_url(),
            "STROEM__AGENTS__PROVIDERS": json.dumps(made.settings()),
        }
        house = House(tmp_path, env, heartbeat_timeout_secs=10, sweep_interval_secs=5)
        try:
            house.scheduler()
            house.worker("only")
            yield Street(house, made)
        finally:
            house.close()
            Conversation.objects.all().delete()


def two_looks(seen: Seen) -> Any:
    return say("Seen") if seen.number == 2 else call("strom_task_look", {"n": seen.number})


def converse(
    street: Street, tmp_path: Path, *, jobs: int, kills: int, within_s: float
) -> list[Job]:
    """Hold `jobs` conversations while the process dies `kills` times: while a question is under
    way, just after its answer was sent, and at any time."""
    chance = random.Random(jobs)
    moments = threading.Semaphore(kills)

    def script(seen: Seen) -> Any:
        street.note_repeated(seen)
        if chance.random() < 0.35 and moments.acquire(blocking=False):
            if chance.random() < 0.4:
                street.kill()
            else:
                threading.Timer(chance.uniform(0.0, 0.08), street.kill).start()
        return two_looks(seen)

    street.service.script = script
    space = workspace(tmp_path, TEXT)
    made = [start(space) for _ in range(jobs)]
    until(
        lambda: all(fresh(job).status in FINAL_JOB for job in made), within_s=within_s, every_s=0.5
    )
    return made


def check(street: Street, made: list[Job]) -> None:
    assert [fresh(job).error for job in made if fresh(job).status != "completed"] == []
    assert street.repeated == []
    for job in made:
        (row,) = Conversation.objects.filter(job_id=job.id)
        assert [turn.seq for turn in row.turns.order_by("seq")] == [1, 2, 3]
        assert list(row.calls.values_list("status", flat=True)) == ["done", "done"]
        assert Job.objects.filter(parent_job_id=job.id).count() == 2
    assert not Attempt.objects.filter(ended_at=None).exists()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_no_answer_is_paid_twice_and_no_tool_called_twice(street: Street, tmp_path: Path) -> None:
    made = converse(street, tmp_path, jobs=10, kills=4, within_s=110)

    until(lambda: street.killed == 4)
    check(street, made)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.django_db(transaction=True)
def test_two_hundred_conversations_survive_their_processes(street: Street, tmp_path: Path) -> None:
    made = converse(street, tmp_path, jobs=200, kills=30, within_s=850)

    until(lambda: street.killed == 30)
    check(street, made)


def run_example(task: str, ticket: str) -> subprocess.CompletedProcess[str]:
    """`manage.py run` as its first lines say."""
    plain = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STROEM_", "DJANGO_"))
    }
    plain["STROEM_CONFIG"] = str(EXAMPLE / "provider" / "server-config.yaml")
    command = [sys.executable, "manage.py", "run", str(EXAMPLE), task, "--json"]
    return subprocess.run(
        [*command, "--input", f"ticket={ticket}"],
        cwd=ROOT, env=plain, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_the_example_runs_with_one_command_and_no_network() -> None:
    finished = run_example("triage", "The screen is black")

    answer = json.loads(finished.stdout.strip().splitlines()[-1])
    assert answer["status"] == "completed", finished.stderr
    assert answer["steps"]["classify"]["output"]["queue"] == "technical"
    assert answer["steps"]["allow-refund"]["status"] == "skipped"
    assert answer["steps"]["file"]["output"] == {"file": {"number": 4711}}


@pytest.mark.long
def test_the_example_uses_its_tools() -> None:
    finished = run_example("assist", "I paid twice")

    answer = json.loads(finished.stdout.strip().splitlines()[-1])
    assert answer["status"] == "completed", finished.stderr
    assert "12.50 euros" in answer["steps"]["answer"]["output"]["text"]
    assert answer["steps"]["answer"]["output"]["_meta"]["tool_calls"] == 2


@pytest.mark.long
def test_a_run_without_its_provider_is_refused_with_a_sentence() -> None:
    finished = subprocess.run(
        [sys.executable, "manage.py", "run", str(EXAMPLE), "triage", "--input", "ticket=x"],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("STROEM_")},
    )  # fmt: skip

    assert finished.returncode == 2
    assert "needs the provider 'assistant' of language models" in finished.stderr
    assert "Traceback" not in finished.stderr
