"""`manage.py worker` as a process: its first line, its refusals, its drain, its lifeline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from apps.fleet.models import Worker
from apps.jobs.models import Attempt, Job, LogChunk, Step
from tests.apps.jobs.builders import fresh, start, until, workspace
from tests.house import House

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """
secrets:
  password: hunter2-hunter2
actions:
  quick:
    type: script
    script: |
      echo "password is {{ secret.password }}"
      test ! -e litter.txt && echo clean
      echo litter > litter.txt; echo changed > workflow.yaml
      cat "$STROEM_INPUT_FILE"
      echo 'OUTPUT: {"n": {{ input.n }}}'
    input: {n: {type: integer}}
  slow: {type: script, script: "trap '' TERM; echo begun; sleep 60"}
  polite: {type: script, script: "echo begun; exec sleep 60"}
  brief: {type: script, script: "echo begun; sleep 1"}
  lasting: {type: script, script: "trap 'exit 0' TERM; sleep 10; echo begun; sleep 60 & wait"}
  content: {type: script, script: "trap 'exit 0' TERM; echo begun; sleep 60 & wait"}
tasks:
  quick:
    flow:
      a: {action: quick, input: {n: 1}}
      b: {action: quick, input: {n: "{{ a.output.n }}"}, depends_on: [a]}
  slow: {flow: {a: {action: slow}}}
  polite: {flow: {a: {action: polite}}}
  brief: {flow: {a: {action: brief}}}
  lasting: {flow: {a: {action: lasting}}}
  content: {flow: {a: {action: content}, b: {action: polite}}}
"""


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env)
    yield found
    found.close()


def command(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), "worker", *arguments],
        env=env, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT,
    )  # fmt: skip


def is_running(job: Job) -> bool:
    return Attempt.objects.filter(job_id=job.id, started_at__isnull=False, ended_at=None).exists()


def has_begun(job: Job) -> bool:
    return "begun" in log_of(job)


def log_of(job: Job) -> str:
    chunks = LogChunk.objects.filter(job_id=job.id).order_by("id").values_list("lines", flat=True)
    return "".join(chunks)


def test_a_job_runs_and_neither_log_nor_rows_nor_the_next_step_see_what_they_must_not(
    house: House, tmp_path: Path
) -> None:
    job = start(workspace(tmp_path, TEXT), "quick")
    house.worker("w", slots=2)
    until(lambda: fresh(job).completed_at is not None)
    assert fresh(job).status == "completed"
    assert list(
        Step.objects.filter(job_id=job.id).order_by("position").values_list("output", flat=True)
    ) == [{"n": 1}, {"n": 1}]
    log = log_of(job)
    assert log.count("password is ••••••") == 2 and "hunter2" not in log
    assert log.count('"clean"') == 2
    assert log.count('"line": "{\\"n\\": 1}"') == 2


def test_the_first_line_says_name_tags_slots_and_queues(house: House, tmp_path: Path) -> None:
    house.worker("w1", "script", "gpu", slots=3)
    line = "worker w1: tags gpu, script; 3 slots; queues gpu+script, script"
    until(lambda: line in (tmp_path / "w1.log").read_text().splitlines())


def test_a_bad_configuration_is_one_sentence_and_exit_code_2(
    process_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "worker.yaml").write_text("tags: [script, docker]\n")
    done = command(process_env, "--config", str(tmp_path / "worker.yaml"))
    assert done.returncode == 2
    assert (
        done.stderr.count("\n") == 1 and "the tag 'docker' needs a section `docker:`" in done.stderr
    )


def test_a_wrong_key_of_a_runners_section_stops_the_start(
    process_env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "worker.yaml").write_text(
        "tags: [script, kubernetes]\nkubernetes: {namespace: x, nonsense: 1}\n"
    )
    done = command(process_env, "--config", str(tmp_path / "worker.yaml"))
    assert done.returncode == 2 and ":2:28: unknown key 'kubernetes.nonsense'" in done.stderr


def test_a_step_that_outlives_the_drain_is_ended_and_the_worker_leaves_in_time(
    house: House, tmp_path: Path
) -> None:
    job = start(workspace(tmp_path, TEXT), "polite")
    house.env["STROEM__WORKER__DRAIN_SECS"] = "1"
    worker = house.worker("w", slots=1)
    until(lambda: is_running(job))
    steps = [process.pid for process in psutil.Process(worker.pid).children(recursive=True)]
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(15) == 0
    assert 1 <= time.monotonic() - began < 6
    assert not any(psutil.pid_exists(pid) for pid in steps)
    step = Step.objects.get(job_id=job.id)
    assert (step.status, step.error) == (
        "failed",
        "The worker ended the step before its end (it was told to leave)",
    )
    assert Worker.objects.get(name="w").stopped_at is not None


def test_a_second_signal_hurries(house: House, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, TEXT), "polite")
    worker = house.worker("w", slots=1)
    until(lambda: is_running(job))
    worker.send_signal(signal.SIGINT)
    until(lambda: "draining" in (tmp_path / "w.log").read_text())
    began = time.monotonic()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(15) == 0
    assert time.monotonic() - began < 5


@pytest.mark.long
def test_a_step_that_ignores_the_end_is_gone_ten_seconds_after_the_drain(
    house: House, tmp_path: Path
) -> None:
    job = start(workspace(tmp_path, TEXT), "slow")
    house.env["STROEM__WORKER__DRAIN_SECS"] = "0"
    worker = house.worker("w", slots=1)
    until(lambda: has_begun(job))
    began = time.monotonic()
    worker.terminate()
    worker.wait(15)
    assert time.monotonic() - began < 10
    assert Step.objects.get(job_id=job.id).status == "failed"


def test_a_worker_whose_lifeline_ends_stops_at_once(house: House, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, TEXT), "polite")
    reading, writing = os.pipe()
    config = str(tmp_path / "w.yaml")
    Path(config).write_text(f"worker_name: w\nworkspace_cache_dir: {tmp_path / 'cache'}\n")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "worker", "--config", config, "--lifeline-fd", str(reading)],
        env=house.env, pass_fds=(reading,), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    house.processes.append(process)
    os.close(reading)
    until(lambda: is_running(job), within_s=30)
    os.close(writing)
    assert process.wait(10) == 0
    assert Step.objects.get(job_id=job.id).status == "failed"


def test_a_cancelled_job_ends_its_steps(house: House, tmp_path: Path) -> None:
    from apps.jobs.services import cancel_job

    house.env["STROEM__RECOVERY__HEARTBEAT_TIMEOUT_SECS"] = "12"
    job = start(workspace(tmp_path, TEXT), "polite")
    worker = house.worker("w", slots=1)
    until(lambda: has_begun(job))
    cancel_job(job.id, actor="test")
    until(lambda: fresh(job).completed_at is not None)
    assert fresh(job).status == "cancelled"
    assert Step.objects.get(job_id=job.id).status == "cancelled"
    assert worker.poll() is None


@pytest.mark.long
def test_nothing_of_a_worker_is_left_on_disk(house: House, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, TEXT), "quick")
    worker = house.worker("w")
    until(lambda: fresh(job).completed_at is not None)
    worker.terminate()
    assert worker.wait(15) == 0
    assert list((tmp_path / "w" / "runs").iterdir()) == []


@pytest.mark.long
def test_steps_that_are_told_to_end_with_their_worker_are_lost(
    house: House, tmp_path: Path
) -> None:
    """As a service manager does it: TERM to all processes of a unit, the main one first."""
    job = start(workspace(tmp_path, TEXT), "content")
    worker = house.worker("w", slots=2)
    until(lambda: log_of(job).count("begun") == 2)
    for process in (psutil.Process(worker.pid), *psutil.Process(worker.pid).children(True)):
        process.terminate()
    assert worker.wait(20) == 0
    assert set(Attempt.objects.values_list("status", flat=True)) == {"lost"}
    errors = set(Step.objects.filter(job_id=job.id).values_list("error", flat=True))
    assert errors == {"The worker and this step were told to end at the same time"}


@pytest.mark.long
def test_a_step_that_alone_is_told_to_end_with_its_worker_is_lost(
    house: House, tmp_path: Path
) -> None:
    """As a service manager does it that knows these two only, whatever the exit code."""
    job = start(workspace(tmp_path, TEXT), "lasting")
    worker = house.worker("w", slots=1)
    until(lambda: has_begun(job))
    [step] = [
        one for one in psutil.Process(worker.pid).children() if "trap" in " ".join(one.cmdline())
    ]
    for process in (psutil.Process(worker.pid), step):
        process.terminate()
    assert worker.wait(20) == 0
    assert Attempt.objects.get().status == "lost"
    error = Step.objects.get(job_id=job.id).error
    assert error == "The worker and this step were told to end at the same time"


@pytest.mark.long
def test_a_step_that_ends_while_its_worker_alone_was_told_to_leave_has_ended_well(
    house: House, tmp_path: Path
) -> None:
    job = start(workspace(tmp_path, TEXT), "brief")
    worker = house.worker("w", slots=1)
    until(lambda: has_begun(job))
    worker.terminate()
    assert worker.wait(20) == 0
    assert fresh(job).status == "completed"
