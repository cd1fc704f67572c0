"""What a job began with is what it ends with, with a real worker: files, definitions, and the
limits of its steps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.jobs.models import Job, Step
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder, refresh
from tests.apps.jobs.builders import fresh, start, until
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """
actions:
  wait:
    type: script
    script: 'while [ ! -e "$STROEM_INPUT_GATE" ]; do sleep 0.05; done'
    input: {gate: {type: string}}
  read: {type: script, source: scripts/read.sh}
  write: {type: script, script: "echo spoiled >> data.txt; touch new.txt; ls > /dev/null"}
  look:
    type: script
    script: 'echo "OUTPUT: {\\"data\\": \\"$(cat data.txt)\\", \\"new\\": $([ -e new.txt ] && echo 1 || echo 0)}"'
  where: {type: script, script: 'echo "OUTPUT: \\"$(basename "$PWD")\\""', workdir: scripts}
  slow: {type: script, script: "sleep 30", timeout: 1s}
  call: {type: task, task: inner}
  tell: {type: script, source: scripts/read.sh}
tasks:
  inner: {flow: {deep: {action: read}}}
  main:
    input: {gate: {type: string}}
    flow:
      hold: {action: wait, input: {gate: "{{ input.gate }}"}}
      read: {action: read, depends_on: [hold]}
      child: {action: call, depends_on: [read], when: "{{ read.output == 'as it was' }}"}
    on_success: [{action: tell}]
  leaks: {flow: {write: {action: write}, look: {action: look, depends_on: [write]}}}
  limits: {flow: {where: {action: where}, slow: {action: slow, continue_on_failure: true}}}
"""


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env)
    yield found
    found.close()


@pytest.fixture
def home(tmp_path: Path, transactional_db: None) -> Workspace:
    folder = tmp_path / "home"
    (folder / "scripts").mkdir(parents=True)
    (folder / "flow.yaml").write_text(TEXT)
    (folder / "data.txt").write_text("clean")
    (folder / "scripts" / "read.sh").write_text("echo 'OUTPUT: \"as it was\"'\n")
    found = import_folder("home", folder)
    assert not found.has_failed, found.problems
    return found


def end_of(job: Job) -> dict[str, Any]:
    """Outputs by step of a job that completes."""
    until(lambda: fresh(job).completed_at, within_s=60)
    assert fresh(job).status == "completed", fresh(job).error
    return dict(Step.objects.filter(job_id=job.id).values_list("name", "output"))


@pytest.mark.sample(3)
@pytest.mark.parametrize("fate", ["changed", "broken", "gone"])
def test_a_job_whose_workspace_changes_or_disappears_ends_as_it_began(
    house: House, home: Workspace, tmp_path: Path, fate: str
) -> None:
    house.scheduler()
    gate = tmp_path / "gate"
    job = start(home, gate=str(gate))
    folder = Path(home.location)
    if fate == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "scripts" / "read.sh").write_text("exit 1\n")
        (folder / "flow.yaml").write_text(
            "tasks: {}\n" if fate == "changed" else "tasks: {main: {flwo: {}}}\n"
        )
    assert refresh(home).has_failed == (fate != "changed")
    house.worker("late")  # one that has never had the files
    gate.touch()
    found = end_of(job)
    assert (found["read"], found["child"]) == ("as it was", {"deep": "as it was"})
    hook = until(lambda: Job.objects.filter(source_type="hook", completed_at__isnull=False).first())
    assert (hook.status, hook.revision_id) == ("completed", job.revision_id)


@pytest.mark.long
def test_what_a_step_writes_into_its_files_no_later_step_sees(
    house: House, home: Workspace
) -> None:
    house.scheduler()
    house.worker("one", slots=1)
    for _ in range(2):
        assert end_of(start(home, "leaks"))["look"] == {"data": "clean", "new": 0}


@pytest.mark.long
def test_the_directory_and_the_time_out_of_an_action_are_obeyed(
    house: House, home: Workspace
) -> None:
    house.scheduler()
    house.worker("one")
    job = start(home, "limits")
    assert end_of(job)["where"] == "scripts"
    slow = Step.objects.get(job_id=job.id, name="slow")
    assert slow.status == "failed" and "timed out after 1s" in slow.error
