"""Defects of the predecessor that must not return, as far as they concern containers.

Two more are tested elsewhere: the pinned revision in tests/acceptance/test_docker.py, since a worker
chooses it, and other paths in test_engines.py, beside engines that see them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import docker
import pytest

from engine.orders import ScriptWork, Verdict
from runners.docker.request import name_container
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.conftest import Finish

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


def test_a_container_is_told_paths_of_its_own_and_none_of_the_workers_host(
    runner: DockerRunner, tmp_path: Path, tree: Path
) -> None:
    """A container was given host paths in its variables, where nothing was."""
    log = Log()
    text = tmp_path / "input.json"
    text.write_text('{"mode": "fast"}')
    order = build_order(
        tmp_path,
        f'cat "$STROEM_INPUTS_FILE"; echo; cat "$DATA"; pwd; env | grep -c "{tmp_path}"',
        workspace_dir=tree,
        env={"DATA": f"{tree}/data.csv"},
        input_path=text,
    )
    runner.run(order, log, Stop())
    assert log.texts() == [
        '{"mode": "fast"}',
        *(tree / "data.csv").read_text().split(),
        "/workspace",
        "0",
    ]


def test_attempts_of_steps_with_names_alike_have_containers_of_their_own(
    runner: DockerRunner, tmp_path: Path, docker_engine: docker.DockerClient
) -> None:
    """A repeated step, an instance of a loop and a step whose name ends in its number met under one
    name."""
    names = ("build-1", "build[1]", "build", "Bygg/ø: " + "x" * 200)
    orders = [
        replace(build_order(tmp_path, "echo $STROEM_STEP_NAME"), step_name=name)
        for name in (*names, "build")
    ]
    assert len({name_container(order.attempt) for order in orders}) == len(orders)
    for order in orders:
        outcome = runner.run(order, Log(), Stop())
        assert outcome.verdict is Verdict.SUCCEEDED, outcome.error


def test_pieces_of_a_line_are_one_line_and_lines_of_one_piece_are_several(finish: Finish) -> None:
    """What the engine handed over at a time was taken for a line."""
    _, log = finish(
        "printf 'half '; sleep 0.3; printf 'and half\\n'; printf 'a\\nb\\nc\\n'; printf 'OUTPUT: ';"
        " echo 7"
    )
    assert log.texts() == ["half and half", "a", "b", "c", "OUTPUT: 7"]


@pytest.mark.parametrize("language", ["shell", "python"])
def test_a_script_runs_although_the_default_runner_image_has_an_entrypoint(
    finish: Finish,
    tools: DockerRunner,
    runner_image: str,
    docker_engine: docker.DockerClient,
    language: str,
) -> None:
    """The image's own entrypoint got the script as arguments, ran nothing of it and succeeded."""
    assert docker_engine.images.get(runner_image).attrs["Config"]["Entrypoint"]
    code = {
        "shell": "echo 'OUTPUT: 42'; exit 3",
        "python": "print('OUTPUT: 42'); raise SystemExit(3)",
    }[language]
    outcome, _ = finish(work=ScriptWork(code=code, language=language), runner=tools)
    assert (outcome.verdict, outcome.output, outcome.exit_code) == (Verdict.FAILED, 42, 3)
