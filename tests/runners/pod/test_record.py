"""The code of a script, as the shell that runs it learns it."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest

from runners.pod import record

SHELLS = [
    pytest.param(
        shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason="no such shell")
    )
    for shell in (["sh"], ["bash", "--posix"], ["bash"], ["busybox", "sh"])
]
UNTIL_IT_HAS_ENDED = "while kill -0 $! 2>/dev/null; do sleep 0.01; done"


def learn(shell: list[str], script: str, *, before: str = "", signals: int = 0) -> str:
    """The code that is told. Shell and script say when they are ready for signals, and the script
    when it has had one."""
    waiting = record._WAIT.replace("while :; do", "echo ready\nwhile :; do", 1)
    code = f"sh -c '{script}' &\n{before}\n{waiting}\necho code $_s_code"
    with subprocess.Popen([*shell, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for count in [2, *[1] * signals][:signals]:
            assert [process.stdout.readline() for _ in range(count)] == ["ready\n"] * count
            process.send_signal(signal.SIGTERM)
        return process.stdout.read().splitlines()[-1]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("code", [0, 1, 3, 127, 137, 143])
def test_the_code_of_a_script_that_ends_before_it_is_waited_for_is_known(
    shell: list[str], code: int
) -> None:
    """A script that failed at once, on a busy node, counted as a success."""
    assert learn(shell, f"exit {code}", before=UNTIL_IT_HAS_ENDED) == f"code {code}"
    assert learn(shell, f"exit {code}") == f"code {code}"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("code", [0, 5])
def test_signals_are_passed_on_and_the_code_is_that_of_the_script(
    shell: list[str], code: int
) -> None:
    trap = 'trap "n=x$n; echo ready" TERM'.replace("$n", "\\$n")
    twice = f'{trap}; echo ready; until [ "$n" = xx ]; do sleep 0.02; done; exit {code}'
    assert learn(shell, twice, signals=2) == f"code {code}"
    assert learn(shell, "echo ready; exec sleep 60", signals=1) == "code 143"
