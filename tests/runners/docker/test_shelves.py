"""What a container leaves and takes, whether or not its engine sees the worker's files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.orders import ImageWork, ScriptWork, Shelves, StateFolders, StepOutcome, Verdict
from runners.docker.config import DockerConfig
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

Finish = Callable[..., tuple[StepOutcome, Log]]


@pytest.fixture
def shelves(tmp_path: Path) -> Shelves:
    left, taken = tmp_path / "left", tmp_path / "taken"
    left.mkdir(0o700)
    (taken / "build").mkdir(parents=True)
    (taken / "build" / "a.txt").write_text("given")
    return Shelves(left, taken, most_bytes=1 << 20)


def files(shelves: Shelves) -> dict[str, str]:
    found = sorted(path for path in shelves.left.rglob("*") if path.is_file())
    return {str(path.relative_to(shelves.left)): path.read_text() for path in found}


SCRIPT = """
mkdir "$ARTIFACTS_DIR/sub"
cp "$ARTIFACTS_IN/build/a.txt" "$ARTIFACTS_DIR/sub/copy.txt"
ln "$ARTIFACTS_DIR/sub/copy.txt" "$ARTIFACTS_DIR/sub/hard.txt"
ln -s /etc/passwd "$ARTIFACTS_DIR/passwd"
chmod 700 "$ARTIFACTS_DIR/sub/copy.txt"
"""
EXPECTED = {"sub/copy.txt": "given", "sub/hard.txt": "given"}


@pytest.mark.parametrize("sharing", ["bind", "copy"])
def test_a_script_takes_files_and_leaves_some(
    finish: Finish, config: DockerConfig, shelves: Shelves, sharing: Any
) -> None:
    runner = DockerRunner(replace(config, sharing=sharing))
    outcome, log = finish(SCRIPT, shelves=shelves, runner=runner)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert files(shelves) == EXPECTED
    assert os.access(shelves.left / "sub/copy.txt", os.X_OK)
    assert "Warning: the artifact 'passwd' is no regular file, and is left out" in log.texts(
        "server"
    )


def test_an_image_of_another_user_leaves_files(
    finish: Finish, base_image: str, shelves: Shelves
) -> None:
    work = ImageWork(base_image, cmd='umask 077; id -u > "$ARTIFACTS_DIR/id"')
    from engine.orders import ContainerWishes

    outcome, _ = finish(work=work, shelves=shelves, container=ContainerWishes(user="1234:1234"))
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert files(shelves) == {"id": "1234\n"}


def test_files_of_its_own_copy_of_the_workspace_are_found_by_their_paths(
    finish: Finish, tree: Path, shelves: Shelves
) -> None:
    code = "mkdir -p out/deep; echo 1 > out/a.csv; echo 2 > out/deep/b.csv; echo 3 > out/c.txt"
    work = ScriptWork(code=code, workspace_dir=tree, workspace_mode="copy")
    wanted = replace(shelves, paths=("out/**/*.csv", "data.csv", "gone/*"))
    outcome, log = finish(work=work, shelves=wanted)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert files(shelves) == {
        "out/a.csv": "1\n", "out/deep/b.csv": "2\n", "data.csv": "a,b\n1,2\n3,4\n"
    }  # fmt: skip
    assert "Warning: no file matches `gone/*` of `artifacts.paths`" in log.texts("server")


@pytest.mark.parametrize("on_failure", [True, False])
def test_a_failed_step_leaves_files_if_that_is_wanted(
    finish: Finish, shelves: Shelves, on_failure: bool
) -> None:
    wanted = replace(shelves, on_failure=on_failure)
    outcome, _ = finish('echo x > "$ARTIFACTS_DIR/x"; exit 3', shelves=wanted)
    assert outcome.exit_code == 3
    assert files(shelves) == ({"x": "x\n"} if on_failure else {})


def test_more_than_a_job_may_leave_fails_the_step(finish: Finish, shelves: Shelves) -> None:
    wanted = replace(shelves, most_bytes=1024 * 1024)
    outcome, _ = finish('head -c 2M /dev/zero > "$ARTIFACTS_DIR/x"', shelves=wanted)
    assert outcome.verdict is Verdict.FAILED
    assert "more than 1 MiB, which is all that a job may leave" in str(outcome.error)
    assert files(shelves) == {}


@pytest.mark.parametrize("sharing", ["bind", "copy"])
def test_an_image_reads_the_state_and_leaves_some(
    finish: Finish, config: DockerConfig, base_image: str, tmp_path: Path, sharing: Any
) -> None:
    paths = [tmp_path / f"state-{number}" for number in range(4)]
    for path in paths:
        path.mkdir()
    (paths[0] / "cursor").write_text("7\n")
    folders = StateFolders((paths[0], paths[1]), (paths[2], paths[3]))
    cmd = 'cat "$STATE_DIR/cursor"; echo 8 > "$STATE_OUT_DIR/cursor"'
    runner = DockerRunner(replace(config, sharing=sharing))
    outcome, log = finish(
        work=ImageWork(base_image, cmd=cmd), runner=runner, state=folders, env=folders.environment
    )
    assert outcome.verdict is Verdict.SUCCEEDED, outcome
    assert log.texts() == ["7"] and (paths[1] / "cursor").read_text() == "8\n"
