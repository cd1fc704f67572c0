"""One job has one output directory, on whichever hosts it runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.jobs.models import LogChunk, StepEvent
from tests.apps.jobs.builders import fresh, start, until, workspace
from tests.house import House
from workers.outputs import Outputs

JOB = uuid.uuid4()


def test_a_node_uses_the_directory_of_the_host_that_requested_it(tmp_path: Path) -> None:
    login, node = Outputs(tmp_path / "login"), Outputs(tmp_path / "node")
    directory = login.open("", JOB)
    login.offer(JOB, directory)
    node.adopt(JOB, str(directory))
    assert node.open("", JOB) == directory and not node.difference_of(JOB)
    assert node.difference == (
        f"The job's output directory is {directory}, as on the host that requested the nodes;"
        f" `output_root` {tmp_path}/node of this node's settings is not used"
    )
    assert node.open("", uuid.uuid4()).parent == tmp_path / "node"


def test_with_the_same_root_there_is_nothing_to_tell(tmp_path: Path) -> None:
    login, node = Outputs(tmp_path), Outputs(tmp_path)
    directory = login.open("", JOB)
    login.offer(JOB, directory)
    node.adopt(JOB, str(directory))
    assert node.open("", JOB) == directory and node.difference == ""


def test_a_directory_that_its_author_named_is_the_same_everywhere(tmp_path: Path) -> None:
    login, node = Outputs(tmp_path / "login"), Outputs(tmp_path / "node")
    named = str(tmp_path / "runs" / "output")
    login.offer(JOB, login.open(named, JOB))
    node.adopt(JOB, named)
    assert node.open(named, JOB) == Path(named) and node.difference == ""


def test_a_directory_that_the_node_does_not_see_is_told(tmp_path: Path) -> None:
    node = Outputs(tmp_path / "node")
    (tmp_path / "login" / str(JOB)).mkdir(parents=True)  # a directory of this name, another disk
    node.adopt(JOB, str(tmp_path / "login" / str(JOB)))
    assert node.open("", JOB) == tmp_path / "node" / str(JOB)
    assert node.difference_of(JOB) == node.difference
    assert "two output directories" in node.difference
    assert "`output_root`" in node.difference


SPREAD = """
actions:
  write: {type: script, script: "echo x > $STROEM_OUTPUT_DIR/$STROEM_STEP_NAME"}
tasks:
  main:
    flow:
      here: {action: write, tags: [left]}
      there: {action: write, tags: [right], depends_on: [here]}
    workflow_actions:
      - {trigger_type: on_workflow_complete, action_type: run_commands, commands: ["true"]}
"""


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env)
    yield found
    found.close()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("roots", [("left", "right"), ("both", "both")])
def test_two_workers_with_roots_of_their_own_tell_it(
    house: House, tmp_path: Path, roots: tuple[str, str]
) -> None:
    for name, root in zip(("left", "right"), roots, strict=True):
        house.worker(name, "script", name, output_root=str(tmp_path / root))
    job = start(workspace(tmp_path, SPREAD))
    until(lambda: fresh(job).completed_at is not None, within_s=60)
    assert fresh(job).status == "completed"
    told = StepEvent.objects.filter(job_id=job.id, kind="output_differs")
    log = "".join(LogChunk.objects.filter(job_id=job.id).values_list("lines", flat=True))
    sentence = "The job's files lie in several output directories"
    if len(set(roots)) == 1:
        assert not told.exists() and sentence not in log
        return
    detail = told[0].detail
    assert detail.startswith(f"{sentence}: ") and "`output_root`" in detail
    assert all(str(tmp_path / root / str(job.id)) in detail for root in roots)
    assert sentence in log
    assert sentence in (tmp_path / "left.log").read_text() + (tmp_path / "right.log").read_text()
