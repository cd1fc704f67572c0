"""Scripts in containers as the documentation shows them, in every language that the image has."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import ImageWork, Resources, ScriptWork, StepOutcome, Verdict
from runners.docker.config import DockerConfig
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.conftest import Finish

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


# images as they are


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"cmd": 'echo "$((6*7)) $STROEM_STEP_NAME"'}, ["42 build"]),
        (
            {"entrypoint": ("printf", "[%s]\\n"), "cmd": "--verbose --env 'a b'"},
            ["[--verbose]", "[--env]", "[a b]"],
        ),
        ({"command": ("echo", "$HOME", "a b"), "cmd": "ignored"}, ["$HOME a b"]),
    ],
)
def test_cmd_entrypoint_and_command(finish: Finish, base_image: str, fields: Any, lines: list[str]):
    outcome, log = finish(work=ImageWork(base_image, **fields))
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == lines


def test_an_images_own_command_runs_when_the_action_says_none(finish: Finish, odd_image: str):
    assert finish(work=ImageWork(odd_image))[1].texts() == ["own.", "command."]
    assert finish(work=ImageWork(odd_image, command=("a", "b")))[1].texts() == ["a.", "b."]
    assert finish(work=ImageWork(odd_image, cmd="id -un"))[1].texts() == ["odd"]


def test_an_image_sees_no_workspace(finish: Finish, base_image: str, tmp_path: Path):
    assert finish(work=ImageWork(base_image, cmd="ls -A /workspace"))[0].verdict is Verdict.FAILED


def test_anonymous_volumes_of_an_image_go_with_the_container(
    finish: Finish, odd_image: str, docker_engine: docker.DockerClient, tree: Path
):
    before = {volume.name for volume in docker_engine.volumes.list()}
    finish(work=ImageWork(odd_image))
    for mode in ("readonly", "copy"):
        finish(
            work=ScriptWork(
                code="true", workspace_dir=tree, workspace_mode=mode, runner_image=odd_image
            )
        )
    after = {volume.name for volume in docker_engine.volumes.list()}
    assert not [name for name in after - before if len(name) == 64]


def test_a_script_runs_whatever_entrypoint_and_user_the_image_has(
    finish: Finish, odd_image: str, tree: Path
):
    work = ScriptWork(
        code="id -un; cat data.csv | wc -l; echo 'OUTPUT: 1'",
        workspace_dir=tree,
        runner_image=odd_image,
    )
    outcome, log = finish(work=work)
    assert outcome.output == 1
    assert log.texts()[:2] == ["odd", "3"]


def test_another_user_may_write_to_its_copy_of_the_workspace(
    finish: Finish, odd_image: str, tree: Path
):
    code = "echo 5,6 >>data.csv && mkdir new && wc -l <data.csv"
    work = ScriptWork(code=code, workspace_dir=tree, workspace_mode="copy", runner_image=odd_image)
    assert finish(work=work)[1].texts() == ["4"]
    assert (tree / "data.csv").read_text().count("\n") == 3


# the workspace


def test_a_write_to_the_workspace_is_refused_and_the_log_names_the_remedy(
    finish: Finish, tree: Path
):
    outcome, log = finish("touch /workspace/x", workspace_dir=tree)
    assert outcome.verdict is Verdict.FAILED
    assert "Read-only file system" in outcome.error
    assert "workspace: copy" in log.lines[-1].text
    assert not (tree / "x").exists()


def test_an_executable_bit_and_a_link_survive_the_copy(finish: Finish, tree: Path):
    (tree / "run.sh").write_text("#!/bin/sh\necho ran $(cat link.csv | wc -l)\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link.csv").symlink_to("data.csv")
    outcome, log = finish("./run.sh", workspace_dir=tree, workspace_mode="copy")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == ["ran 3"]


@pytest.mark.parametrize("mode", ["readonly", "copy"])
def test_a_source_runs_by_a_link_by_its_first_line_and_with_plain_line_ends(
    finish: Finish, tree: Path, mode: Any
):
    (tree / "tools").mkdir()
    (tree / "tools" / "run").write_bytes(b"#!/bin/sh -eu\r\nfalse\r\necho went on\r\n")
    (tree / "bin").symlink_to("tools")
    outcome, log = finish(source="bin/run", workspace_dir=tree, workspace_mode=mode)
    assert (outcome.verdict, outcome.exit_code, log.texts()) == (Verdict.FAILED, 1, [])
    assert log.texts("server") == [
        "bin/run has Windows line ends (CR LF); the step runs it with LF"
    ]


def test_a_first_line_that_the_image_cannot_follow_is_told(finish: Finish):
    outcome, _ = finish("#!/usr/bin/env perl9\nprint 1\n")
    assert outcome.exit_code == 127
    assert "the script's first line names 'perl9'" in outcome.error


def test_the_umask_of_a_script_holds(finish: Finish):
    assert finish("umask", umask=0o027)[1].texts() == ["0027"]


def test_start_up_scripts_of_the_worker_are_sourced_before_a_script(
    finish: Finish, config: DockerConfig, tmp_path: Path
):
    startup = tmp_path / "startup.d"
    startup.mkdir()
    (startup / "10-a.sh").write_text("export FROM_STARTUP=yes\n")
    (startup / "20-b.txt").write_text("echo not a script\n")
    runner = DockerRunner(replace(config, startup_dir=startup))
    assert finish("echo $FROM_STARTUP", runner=runner)[1].texts() == ["yes"]


def test_variables_of_our_own_program_do_not_reach_the_script(finish: Finish):
    _, log = finish("env | grep -c '^_s_'; echo $file $name", env={"file": "mine", "name": "too"})
    assert log.texts() == ["0", "mine too"]


# the documentation's examples


def test_the_example_that_installs_with_pip_into_the_container(finish: Finish, tools: DockerRunner):
    outcome, _ = finish(
        "pip install -q six && python3 -c 'import six' && ls /workspace", runner=tools
    )
    assert outcome.verdict is Verdict.SUCCEEDED, outcome.error


def test_the_example_that_installs_with_uv_into_the_system(
    finish: Finish, tools: DockerRunner, tree: Path
):
    (tree / "scripts").mkdir()
    (tree / "scripts" / "analyze.py").write_text("import six\nprint('OUTPUT: \"ok\"')\n")
    code = "uv pip install six --system\nuv run python /workspace/scripts/analyze.py\n"
    outcome, _ = finish(code, workspace_dir=tree, runner=tools)
    assert outcome.output == "ok", outcome.error


def test_the_example_that_installs_with_bun_needs_a_copy(
    finish: Finish, tools: DockerRunner, tree: Path
):
    (tree / "package.json").write_text('{"dependencies": {"is-odd": "3"}}')
    (tree / "report.ts").write_text(
        "import isOdd from 'is-odd';\nconsole.log(`OUTPUT: ${isOdd(3)}`);\n"
    )
    code = "cd /workspace\nbun install && bun run report.ts\n"
    unedited, log = finish(code, workspace_dir=tree, runner=tools)
    assert unedited.verdict is Verdict.FAILED
    assert "workspace: copy" in log.lines[-1].text, log.texts()
    edited, _ = finish(code, workspace_dir=tree, workspace_mode="copy", runner=tools)
    assert edited.output is True, edited.error


def test_the_tools_of_the_table_that_registries_have_are_in_the_image(
    finish: Finish, tools: DockerRunner
):
    names = "bash curl git jq tar gzip unzip ssh uv bun python3"
    outcome, log = finish(
        f"for tool in {names}; do command -v $tool >/dev/null || echo $tool; done", runner=tools
    )
    assert outcome.verdict is Verdict.SUCCEEDED
    assert log.texts() == []


def test_the_images_own_entrypoint_sources_start_up_scripts(finish: Finish, runner_image: str):
    code = "echo 'export A=1' >/etc/stroem/startup.d/a.sh; stroem-entrypoint sh -c 'echo A=$A'"
    assert finish(work=ImageWork(runner_image, cmd=code))[1].texts() == ["A=1"]


# limits


@pytest.mark.parametrize(
    ("resources", "is_told"), [(Resources(memory="64Mi"), True), (Resources(), False)]
)
def test_a_killed_step_is_told_about_its_limit_also_where_the_engine_missed_why(
    finish: Finish, resources, is_told
):
    outcome, _ = finish("sh -c 'kill -9 $$'; exit $?", resources=resources)
    assert outcome.exit_code == 137
    assert ("most likely because it ran out of memory (limit: 64Mi)" in outcome.error) is is_told


def test_out_of_memory_is_told_apart(finish: Finish):
    outcome, _ = finish("head -c 300m /dev/zero | tail", resources=Resources(memory="32Mi"))
    assert outcome.verdict is Verdict.FAILED
    assert "ran out of memory (limit: 32Mi)" in outcome.error


def test_a_process_that_may_not_have_more_cpu_gets_less(finish: Finish):
    code = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null | head -1"
    assert finish(code, resources=Resources(cpu="500m"))[1].texts()[0].split()[0] == "50000"


def test_a_container_has_no_more_power_than_it_needs(finish: Finish):
    code = (
        "grep -E 'CapEff|NoNewPrivs' /proc/self/status; ls /var/run/docker.sock 2>&1; mount -t"
        " tmpfs x /mnt 2>&1"
    )
    text = "\n".join(finish(code)[1].texts())
    bits = int(text.split("CapEff:")[1].split()[0], 16)
    assert not bits & (1 << 21 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 27), (
        "SYS_ADMIN, NET_ADMIN, NET_RAW, PTRACE, MKNOD"
    )
    assert "NoNewPrivs:\t1" in text
    assert "docker.sock': No such file" in text
    assert "permission denied" in text.lower() or "must be superuser" in text


def test_a_stop_during_a_pull_does_not_wait_for_the_registry(config: DockerConfig, tmp_path: Path):
    """A registry that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        image = f"127.0.0.1:{listener.getsockname()[1]}/slow:1"
        order, log, stop = build_order(tmp_path, work=ImageWork(image)), Log(), Stop()
        outcomes: list[StepOutcome] = []
        thread = threading.Thread(
            target=lambda: outcomes.append(DockerRunner(config).run(order, log, stop))
        )
        thread.start()
        log.wait_for("Pulling image")
        began = time.monotonic()
        stop.set()
        thread.join(20)
    assert outcomes[0].verdict is Verdict.CANCELLED
    assert time.monotonic() - began < 2
