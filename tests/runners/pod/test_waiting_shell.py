"""The shell that runs the script of a pod learns the script's exit code, however quick it was."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from runners.pod.record import _WAIT

SHELLS = [
    pytest.param(
        shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason="no such shell")
    )
    for shell in (["sh"], ["bash", "--posix"], ["bash"], ["busybox", "sh"])
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("code", [0, 3, 127, 137, 143])
def test_a_script_that_ended_before_it_was_waited_for_keeps_its_code(
    shell: list[str], code: int
) -> None:
    late = _WAIT.replace("trap ", "sleep 0.2\ntrap ", 1)  # the shell has reaped it meanwhile
    text = f'sh -c "exit {code}" &\n{late}\nexit "$_s_code"'
    assert subprocess.run([*shell, "-c", text], timeout=20, check=False).returncode == code


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_that_is_told_to_stop_gives_its_own_code(shell: list[str]) -> None:
    script = "trap 'exit 5' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"
    text = f'sh -c "$SCRIPT" &\n{_WAIT}\nexit "$_s_code"'
    env = {"SCRIPT": script, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([*shell, "-c", text], env=env, timeout=20, check=False)
    assert done.returncode == 5
