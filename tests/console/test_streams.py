"""Both programs bear what a shell hands over as standard input, output and error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import ROOT

MANAGE, CLIENT = (sys.executable, "manage.py"), (sys.executable, "-m", "stroem")
HELLO = ("validate", "examples/hello")
# one of each way to be called: a list, help, a command of ours beside the platform, one with it
CALLS = [
    (*MANAGE, "help"),
    (*MANAGE, *HELLO),
    pytest.param((*MANAGE, "jobs", "--help"), marks=pytest.mark.long),
    pytest.param((*MANAGE, "doctor"), marks=pytest.mark.long),
    pytest.param((*MANAGE, "schema"), marks=pytest.mark.long),
    (*CLIENT, "--help"),
    (*CLIENT, *HELLO),
    pytest.param((*CLIENT, "jobs", "--help"), marks=pytest.mark.long),
]
NARROW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SAYS = """
tasks:
  main: {flow: {say: {type: script, script: "echo '\N{CHECK MARK} \N{GRINNING FACE} \xfc'; echo 'OUTPUT: \\"\xfc\\"'"}}}
"""


def shell(line: str, *call: str, **settings: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", line, "bash", *call],
        cwd=ROOT, env=os.environ | settings, capture_output=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_reader_that_has_left_ends_the_program_quietly(call: tuple[str, ...]) -> None:
    # the reader is gone before the first letter
    done = shell('exec 3> >(exec true); wait $!; "$@" >&3; echo "code $?"', *call)
    code = int(done.stdout.split()[-1])
    assert done.stderr == b"" and code in ((0, 1) if "--help" in call else (1,))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this device")
@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_full_disk_is_one_sentence(call: tuple[str, ...]) -> None:
    done = shell('"$@" >/dev/full', *call)
    if done.returncode or "--help" not in call:  # argparse says nothing of what it cannot write
        assert done.returncode == 1
        assert done.stderr == b"error: Nothing more can be written: no space left on device.\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("program", [MANAGE, CLIENT], ids=["manage.py", "stroem"])
def test_a_closed_stream_is_like_one_to_nowhere(program: tuple[str, ...], closed: str) -> None:
    done = shell(f'"$@" {closed}', *program, *HELLO)
    told = b"" if ">&-" in closed.replace("2>&-", "") else b"Valid: 2 actions, 1 task.\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, told, b"")


@pytest.mark.long
def test_a_run_bears_closed_streams() -> None:
    """What it starts inherits them."""
    done = shell('"$@" <&- 2>&-', *MANAGE, "run", "examples/hello")
    assert done.returncode == 0 and b"hello-world: completed" in done.stdout


@pytest.mark.long
def test_what_the_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / "says.yaml"
    file.write_text(SAYS, encoding="utf-8")
    done = shell('"$@"', *MANAGE, "run", str(file), **NARROW)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"say | \u2713 \ud83d\ude00 \u00fc" in done.stdout
    done = shell('"$@" 2>/dev/null', *MANAGE, "run", str(file), "--json", **NARROW)
    assert json.loads(done.stdout.decode("ascii"))["steps"]["say"]["output"] == "\xfc"


@pytest.mark.parametrize("program", [MANAGE, CLIENT], ids=["manage.py", "stroem"])
def test_ctrl_c_during_the_start_is_no_traceback(program: tuple[str, ...]) -> None:
    """SIGINT right after the streams were looked at: before any command could listen."""
    line = (
        "import os, signal, sys; from console import streams; settle = streams.settle\n"
        "def interrupt():\n"
        "    settle(); signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
        "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))\n"
        "streams.settle = interrupt; sys.argv = sys.argv[1:]\n"
    )
    start = (
        "import manage; manage.main()"
        if program is MANAGE
        else "from stroem import program; program.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", line + start, "manage.py", *HELLO],
        cwd=ROOT, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGINT, b"", b"")


def test_who_starts_it_may_ignore_the_ends_of_its_children() -> None:
    """Handed on, it lets every program that a worker starts seem to succeed."""
    line = (
        "import atexit, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "atexit.register(lambda: print(repr(signal.getsignal(signal.SIGCHLD))))\n"
        "import manage; manage.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", line, "help"],
        cwd=ROOT, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == repr(signal.SIG_DFL).encode()
