"""Programs as children: they are watched, started again, and never outlive the one who started
them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from standalone.supervision.lifeline import Lifeline
from standalone.supervision.program import STORE, Program, ProgramFailed
from standalone.supervision.supervisor import Supervisor
from tests.standalone.processes import eventually, is_alive, mentions

ENV = {"PATH": os.environ["PATH"]}
OWNER = """
import sys, time
from pathlib import Path
from standalone.supervision.lifeline import Lifeline
from standalone.supervision.program import STORE, Program
log = Path(sys.argv[1])
lifeline = Lifeline()
lifeline.remove_at_end(log.parent / "temporary")
scripts = {
    "store": ("trap 'date +%s%N > store-ended; exit' INT; while :; do sleep 0.02; done", STORE),
    "polite": ("trap 'date +%s%N > polite-ended; exit' TERM; while :; do sleep 0.02; done", 0),
    "deaf": ("trap '' TERM INT; while :; do sleep 0.02; done", 0),
}
for name, (script, stage) in scripts.items():
    stop_steps = ((2, 1.0),) if stage else ((15, 0.5),)
    child = lifeline.spawn(Program(name, ("sh", "-c", script), log, {"PATH": "/usr/bin:/bin"}, cwd=log.parent,
                                   stage=stage, stop_steps=stop_steps))
    print(child.pid, flush=True)
time.sleep(100)
"""


@pytest.fixture
def lifeline() -> Iterator[Lifeline]:
    line = Lifeline()
    yield line
    line.close()


def shell(name: str, script: str, folder: Path, **more: object) -> Program:
    return Program(name, ("sh", "-c", script), folder / f"{name}.log", ENV, cwd=folder, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_children_end_in_order_when_their_owner_is_gone_however_it_went(
    tmp_path: Path, number: int
) -> None:
    closed = tmp_path / "temporary" / "tree"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").touch()
    for folder in (closed / "inner", closed):
        folder.chmod(0o555)  # as the copies of workspaces are
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pids = [int(owner.stdout.readline()) for _ in range(3)]
    eventually(lambda: all("while" in " ".join(psutil.Process(pid).cmdline()) for pid in pids))
    time.sleep(0.1)  # a shell sets its trap after it has begun, and cannot be asked whether it has

    owner.send_signal(number)
    owner.wait()

    eventually(lambda: not any(is_alive(pid) for pid in pids), within_s=5)
    assert int((tmp_path / "polite-ended").read_text()) < int(
        (tmp_path / "store-ended").read_text()
    )
    eventually(lambda: not (tmp_path / "temporary").exists())


def test_a_guard_that_was_killed_is_replaced_and_knows_everybody(tmp_path: Path) -> None:
    lifeline = Lifeline()
    child = lifeline.spawn(shell("idle", "exec sleep 100", tmp_path))
    guard = lifeline._guard.pid
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not is_alive(guard))

    lifeline.check()
    lifeline.close()

    assert not is_alive(child.pid) or child.process.wait(5) is not None


def test_a_program_that_ends_at_its_start_is_told_with_the_end_of_its_log(
    tmp_path: Path, lifeline: Lifeline
) -> None:
    program = shell("broken", "echo no such option >&2; exit 3", tmp_path, answers=lambda: False)
    with pytest.raises(ProgramFailed, match=r"broken ended at its start: no such option"):
        lifeline.spawn(program).wait_until_ready()


def test_a_program_that_never_answers_is_told_too(tmp_path: Path, lifeline: Lifeline) -> None:
    program = shell("silent", "exec sleep 100", tmp_path, answers=lambda: False, ready_within_s=0.2)
    child = lifeline.spawn(program)
    with pytest.raises(ProgramFailed, match=r"silent did not answer within 0\.2 seconds"):
        child.wait_until_ready()
    child.stop()


def test_what_heeds_no_signal_is_killed_and_its_group_with_it(
    tmp_path: Path, lifeline: Lifeline
) -> None:
    mark = f"sleep {time.time_ns()}"
    child = lifeline.spawn(
        shell("deaf", f"trap '' TERM; {mark} & wait; {mark}", tmp_path, stop_steps=((15, 0.2),))
    )
    eventually(lambda: len(mentions(mark.split()[1])) >= 2)

    child.stop()

    eventually(lambda: not mentions(mark.split()[1]))


def test_what_dies_is_started_again_and_the_reader_is_told_why(
    tmp_path: Path, lifeline: Lifeline
) -> None:
    said: list[str] = []
    supervisor = Supervisor(lifeline, said.append)
    supervisor.start(
        shell("weak", "echo run >> runs; echo out of luck; sleep 0.1; exit 7", tmp_path)
    )

    def has_run_twice() -> bool:
        supervisor.tend()
        return (tmp_path / "runs").exists() and (tmp_path / "runs").read_text().count("run") >= 2

    took_s = eventually(has_run_twice)
    supervisor.stop(within_s=2)
    assert took_s > 0.4  # not at once: a program that cannot live must not eat the machine
    assert "weak ended (exit code 7); restarting it in 0.5 s." in said
    assert "  weak: out of luck" in said


def test_a_stop_ends_applications_before_what_they_store_things_in(
    tmp_path: Path, lifeline: Lifeline
) -> None:
    supervisor = Supervisor(lifeline, print)
    note = "trap 'date +%s%N > {0}-ended; exit' {1}; echo > {0}-set; while :; do sleep 0.02; done"
    for name, stage, number in (("store", STORE, signal.SIGINT), ("app", 0, signal.SIGTERM)):
        supervisor.start(
            shell(
                name,
                note.format(name, number.name.removeprefix("SIG")),
                tmp_path,
                stage=stage,
                stop_steps=((number, 2.0),),
                answers=(tmp_path / f"{name}-set").exists,
            )
        )

    supervisor.stop(within_s=5)

    assert int((tmp_path / "app-ended").read_text()) < int((tmp_path / "store-ended").read_text())
