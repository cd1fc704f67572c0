"""One job has one output directory, on whichever hosts it runs."""

from __future__ import annotations

import uuid
from pathlib import Path

from workers.outputs import Outputs

JOB = uuid.uuid4()


def test_a_node_uses_the_directory_of_the_host_that_requested_it(tmp_path: Path) -> None:
    login, node = Outputs(tmp_path / "login"), Outputs(tmp_path / "node")
    directory = login.open("", JOB)
    login.offer(JOB, directory)
    node.adopt(JOB, str(directory))
    assert node.open("", JOB) == directory and not node.is_split
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
    assert node.is_split and node.open("", JOB) == tmp_path / "node" / str(JOB)
    assert "two output directories" in node.difference
    assert "`output_root`" in node.difference
