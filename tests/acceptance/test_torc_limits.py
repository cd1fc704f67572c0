"""Where Torc has a limit, and what real workers do instead."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.fleet.models import WorkerSession
from apps.jobs.flow import blueprints
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Job, Step
from apps.workflow_actions.models import JobAction
from apps.workspaces import revisions
from tests.acceptance.engines import end_of
from tests.apps.jobs.builders import start, until
from tests.apps.workflow_actions.doing import log_of, specification
from tests.apps.workflow_actions.hands import actions, tries
from tests.house import House

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
WITHIN_S = 120.0
PATIENCE_S = 9.0  # for a machine with other work; what it takes on a quiet one is printed


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env, heartbeat_timeout_secs=10, sweep_interval_secs=5)
    yield found
    found.close()


def torc(folder: Path, jobs: str, *lines: str) -> Job:
    text = f"name: main\njobs:\n{jobs}actions:\n" + "".join(f"- {{{line}}}\n" for line in lines)
    return start(specification(folder, text))


def directory(job: Job) -> Path:
    """Where the file of the job lies."""
    return Path(job.workspace.location).parent


@pytest.mark.long
def test_what_a_killed_worker_had_in_hand_is_done_by_another(house: House, tmp_path: Path) -> None:
    house.scheduler()
    victim = house.worker("victim")
    script = 'echo start >> seen; [ "$(wc -l < seen)" -gt 1 ] || sleep 120; echo end >> seen'
    job = torc(
        tmp_path,
        "- {name: a, command: 'true'}\n",
        "name: it, trigger_type: on_workflow_start, action_type: run_commands, commands:"
        f" ['{script}']",
    )
    seen = directory(job) / "output" / "seen"
    until(seen.exists, within_s=WITHIN_S, every_s=0.05)
    house.worker("survivor")
    house.kill(victim, tree=False)
    until(lambda: actions(job) == {"it": "succeeded"}, within_s=WITHIN_S, every_s=0.2)
    assert seen.read_text().split() == ["start", "start", "end"], (
        "the first process was ended with its worker"
    )
    runs = [(run.status, run.error) for run in tries(job, "it")]
    assert runs == [("lost", "Worker victim was lost"), ("succeeded", "")]
    assert end_of(job, WITHIN_S).status == "completed"


@pytest.mark.long
def test_no_step_begins_before_what_sets_it_up_has_ended_on_any_worker(
    house: House, tmp_path: Path
) -> None:
    workers = [house.worker("one", slots=2), house.worker("two", slots=2)]
    job = torc(
        tmp_path,
        "- {name: 'a_{i}', command: 'test -e output/ready && sleep 0.3', parameters: {i: '1:8'}}\n"
        "- {name: b, command: 'test -e output/later', depends_on_regexes: ['^a_']}\n",
        "name: set-up, barrier: true, trigger_type: on_workflow_start, action_type: run_commands, "
        "commands: ['sleep 1', 'touch ready']",
        "name: between, barrier: true, trigger_type: on_jobs_ready, jobs: [b], action_type:"
        " run_commands, commands: ['sleep 1', 'touch later']",
        "name: comes, trigger_type: on_worker_start, action_type: run_commands, commands: ['echo x"
        " >> came']",
        "name: leaves, trigger_type: on_worker_complete, action_type: run_commands, commands:"
        " ['echo x >> left']",
    )
    assert end_of(job, WITHIN_S).status == "completed"
    ends = {label: tries(job, label)[0].ended_at for label in ("set-up", "between")}
    first = Step.objects.filter(job_id=job.id, name__startswith="a_").order_by("started_at").first()
    last = Step.objects.get(job_id=job.id, name="b")
    assert (
        first is not None
        and first.started_at >= ends["set-up"]
        and last.started_at >= ends["between"]
    )
    sessions = (
        Step.objects.filter(job_id=job.id).values_list("worker_id", flat=True).distinct().count()
    )
    until(lambda: actions(job)["leaves"] == "succeeded", within_s=WITHIN_S, every_s=0.1)
    output = directory(job) / "output"
    assert (
        len((output / "came").read_text().split())
        == sessions
        == len((output / "left").read_text().split())
    )
    assert all(worker.poll() is None for worker in workers)


@pytest.mark.long
def test_a_worker_leaves_a_job_before_it_works_for_its_restart(
    house: House, tmp_path: Path
) -> None:
    house.scheduler()
    house.worker("only")
    job = torc(
        tmp_path,
        "- {name: a, command: 'echo step >> output/seen; test -e output/may'}\n",
        "trigger_type: on_worker_start, action_type: run_commands, commands: ['echo in >> seen']",
        "trigger_type: on_worker_complete, action_type: run_commands, commands: ['sleep 1; echo out"
        " >> seen']",
    )
    assert end_of(job, WITHIN_S).status == "failed"
    (directory(job) / "output" / "may").touch()
    restart_failed(job.id, actor="me")
    seen = directory(job) / "output" / "seen"
    until(lambda: seen.read_text().split() == ["in", "step", "out"] * 2, within_s=WITHIN_S)
    rows = JobAction.objects.filter(job_id=job.id)
    until(lambda: set(rows.values_list("status", flat=True)) == {"succeeded"}, within_s=WITHIN_S)
    assert rows.count() == 4
    assert set(WorkerSession.objects.values_list("status", flat=True)) == {"closed"}


def test_actions_run_in_a_directory_of_their_own_and_are_told_what_steps_are(
    house: House, tmp_path: Path
) -> None:
    house.worker("only")
    job = torc(
        tmp_path,
        "- {name: a, command: 'pwd; env | grep -E \"^(TORC|STROEM)_\" | sort'}\n",
        "name: it, trigger_type: on_jobs_complete, jobs: [a], action_type: run_commands, commands:"
        " [pwd, env]",
    )
    assert end_of(job, WITHIN_S).status == "completed"
    until(lambda: actions(job) == {"it": "succeeded"}, within_s=WITHIN_S, every_s=0.1)
    lines = log_of(job, "it")
    told = dict(line.partition("=")[::2] for line in lines if "=" in line)
    output = str(directory(job) / "output")
    assert output in lines and told["TORC_OUTPUT_DIR"] == told["STROEM_OUTPUT_DIR"] == output
    assert told["TORC_WORKFLOW_ID"] == told["STROEM_JOB_ID"] == str(job.id)
    assert told["STROEM_TRIGGER"] == "on_jobs_complete" and told["STROEM_OUTCOME"] == "completed"
    assert "TORC_API_URL" in told and told["HOME"]
    address = house.env["STROEM__DB__URL"]
    assert not any(address in line or house.env["STROEM__BROKER__URL"] in line for line in lines)
    assert not {name for name in told if name.startswith(("STROEM__", "DJANGO_"))}


def chain(count: int) -> str:
    first = "- {name: s0, command: 'true'}\n"
    return first + "".join(
        f"- {{name: s{i}, command: 'true', depends_on: [s{i - 1}]}}\n" for i in range(1, count)
    )


def seconds_of_chain(folder: Path) -> float:
    began = time.monotonic()
    job = start(specification(folder, f"name: main\njobs:\n{chain(10)}"))
    until(
        lambda: Job.objects.get(id=job.id).completed_at is not None, within_s=WITHIN_S, every_s=0.01
    )
    return time.monotonic() - began


def test_a_chain_waits_for_no_polls(house: House, tmp_path: Path) -> None:
    house.worker("only")
    # A poll on each side and a sweep of thirty seconds between them, for each of the nine edges,
    # would be minutes.
    assert min(seconds_of_chain(tmp_path) for _ in range(3)) < 20.0


@pytest.mark.slow
def test_a_chain_of_ten_takes_less_than_three_seconds(house: House, tmp_path: Path) -> None:
    house.worker("only")
    assert min(seconds_of_chain(tmp_path) for _ in range(5)) < 3.0


def stages(width: int, last: int) -> str:
    """Three stages, each behind a job that waits for all of the one before."""
    text = "name: main\njobs:\n"
    for number, count in ((1, width), (2, width), (3, last)):
        after = f", depends_on: [barrier{number - 1}]" if number > 1 else ""
        text += (
            f"- {{name: 'stage{number}_{{i:04d}}', command: 'true', parameters: {{i:"
            f" '1:{count}'}}{after}}}\n"
        )
        text += (
            f"- {{name: barrier{number}, command: 'true', depends_on_regexes:"
            f" ['^stage{number}_']}}\n"
        )
    return text + "- {name: report, command: 'true', depends_on: [barrier3]}\n"


def test_three_stages_behind_barriers_run_one_after_the_other(house: House, tmp_path: Path) -> None:
    house.worker("only")
    job = start(specification(tmp_path, stages(12, 5)))
    assert end_of(job, WITHIN_S).status == "completed"
    begun = dict(Step.objects.filter(job_id=job.id).values_list("name", "started_at"))
    ended = dict(Step.objects.filter(job_id=job.id).values_list("name", "completed_at"))
    assert len(begun) == 12 + 12 + 5 + 4
    for number in (1, 2, 3):
        assert (
            max(at for name, at in ended.items() if name.startswith(f"stage{number}_"))
            <= begun[f"barrier{number}"]
        )
    assert ended["barrier3"] <= begun["report"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_thousand_steps_in_three_stages_are_there_within_a_second_and_complete(
    house: House, tmp_path: Path
) -> None:
    ws = specification(tmp_path, stages(1000, 100))
    blueprints.forget()  # as a process that has just begun: nothing of the file is in its memory
    revisions.forget(ws.current_id)
    took = []
    for _ in range(3):
        began = time.monotonic()
        job = start(ws)
        took.append(time.monotonic() - began)
    print(json.dumps({"created in seconds": [round(one, 3) for one in took]}))
    assert Step.objects.filter(job_id=job.id).count() == 2104 and took[0] < 1.0 + PATIENCE_S
    house.worker("only")
    ended = end_of(job, 500)
    assert ended.status == "completed"
