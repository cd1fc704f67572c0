"""`stroem-step` where the step has killed its callers, or broken the pipes: later ones get their
answer, and whoever waits is told."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.orders import HELPER
from engine.state import Seen
from tests.apps.jobs.builders import until
from tests.workers.test_helper import DONE, Bench
from workers import pipes

COUNT = "stroem-step state get count"
SEVEN = (0, "7\n", "")
HERE = f'here=$(dirname "$(command -v {HELPER})")'
DAMAGE = {
    "gone": 'rm "$one"',
    "a file": 'rm "$one"; echo 00000000 >"$one"',
    "a directory": 'rm "$one"; mkdir "$one"; touch "$one/x"',
    "a link": 'rm "$one"; ln -s "$PWD/target" "$one"',
    "a link to nothing": 'rm "$one"; ln -s "$PWD/nothing" "$one"',
    "a pipe": 'rm "$one"; mkfifo "$one"',
    "closed": 'chmod 0 "$one"',
    "moved": 'mv "$one" "$one.old"',
}


@pytest.fixture(name="bench")
def bench_of_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(pipes, "LOOK_S", 0.05)
    monkeypatch.setattr(pipes, "QUESTION_S", 1.0)
    made = Bench(tmp_path)
    yield made
    made.helper.close()


@pytest.mark.sample(3)
@pytest.mark.parametrize("pattern", ["free", "*.in", "*.out", "*"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_pipes_that_a_step_has_broken_are_made_anew(
    bench: Bench, pattern: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = bench.work / "target"
    target.write_text("untouched")
    target.chmod(0o640)
    before = target.stat()
    every = "; ".join([HERE, f'for one in "$here"/{pattern}; do case $one in */{HELPER}) ;; *)'])
    for _ in range(2):
        assert bench.run(f"{every} {DAMAGE[damage]};; esac; done || :")[0] == 0
        status, out, err = bench.run(COUNT)
        told = (69, "") if damage == "a pipe" else SEVEN[:2]  # it may have waited in there
        assert (status, out) in (told, SEVEN[:2]), err
        until(lambda: _is_whole(bench.helper.folder.path))
    after = target.stat()
    assert target.read_text() == "untouched"
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert not (bench.work / "nothing").exists()
    assert len(caplog.records) == 1 and "the step has changed its pipes" in caplog.text


def _is_whole(folder: Path) -> bool:
    found = {path.name: path.lstat().st_mode for path in folder.iterdir()}
    pipes_of_now = [name for name, mode in found.items() if mode == stat.S_IFIFO | 0o666]
    return "free" in pipes_of_now and len(pipes_of_now) >= 9


@pytest.mark.parametrize("count", [1, 4])
def test_turns_of_callers_that_were_killed_come_back(bench: Bench, count: int) -> None:
    for _ in range(3):
        bench.take(count)
        assert bench.run(COUNT) == SEVEN


def test_what_is_written_to_the_pipe_of_turns_is_thrown_away(bench: Bench) -> None:
    for garbage in (b"x", b"../../..", b"99999999" * 50, b"\0" * (1 << 20)):
        with open(bench.helper.folder.path / "free", "r+b", buffering=0) as free:
            os.set_blocking(free.fileno(), False)
            assert free.write(garbage)
        assert bench.run(COUNT) == SEVEN


@pytest.mark.long
def test_a_name_that_was_read_in_part_is_made_up_for(bench: Bench) -> None:
    for _ in range(3):
        with open(bench.helper.folder.path / "free", "rb", buffering=0) as free:
            free.read(3)
        assert bench.run(COUNT) == SEVEN


def test_questions_without_an_end_hold_up_nobody(bench: Bench) -> None:
    """Neither who says nothing more, nor who says more and more."""
    folder = bench.helper.folder.path
    names = bench.take()
    with open(folder / f"{names[0]}.in", "wb", buffering=0) as half:
        half.write(b"2\0state")
        codes = [f'exec dd if=/dev/zero bs=65536 2>/dev/null >>"{folder}/{names[1]}.in"']
        with open(folder / f"{names[2]}.in", "wb"):  # who says nothing at all
            endless = [bench.start(code) for code in codes]
            assert bench.run(COUNT) == SEVEN
            bench.helper.close()
    for process in endless:
        process.communicate(timeout=10)
    assert bench.helper.settle(DONE) == DONE


def _changed(bench: Bench, old: str, new: str) -> str:
    """The command with another text in it, under a name of its own."""
    text = (bench.helper.folder.path / HELPER).read_text()
    assert old in text
    text = text.replace(old, new).replace("here=${0%/*}", f"here={bench.helper.folder.path}")
    (bench.work / "changed").write_text(text)
    return "exec sh ./changed"


def test_one_that_stood_still_takes_another_turn(bench: Bench) -> None:
    """It gets no other's answer."""
    stop = 'dd() { command dd "$@"; kill -STOP $$; }'
    process = bench.start(f"{_changed(bench, 'set -u', f'set -u; {stop}')} state get count")
    until(lambda: _stands_still(process))
    until(lambda: not (bench.helper.folder.path / "00000001.in").exists())
    os.kill(process.pid, signal.SIGCONT)
    until(lambda: _stands_still(process))  # it has taken another turn
    os.kill(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, b"7\n", b"")


def _stands_still(process: subprocess.Popen[bytes]) -> bool:
    """Whether one in the group has been stopped."""
    listed = ["ps", "-e", "-o", "pgid=,state="]
    lines = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.splitlines()
    return [str(process.pid), "T"] in [line.split() for line in lines]


@pytest.mark.parametrize("end", ["free", "in", "out"])
def test_who_waits_in_a_pipe_of_the_steps_goes_on(bench: Bench, end: str) -> None:
    """Opening a pipe waits for the other side, which would never come."""
    folder = bench.helper.folder.path
    name = "free"
    if end != "free":
        name = f"{bench.take(1)[0]}.{end}"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    way = ">" if end == "in" else "<"
    process = bench.start(f"cat {way}{folder}/{name}")
    assert process.communicate(timeout=10)[0] == b""
    assert bench.run(COUNT) == SEVEN


@pytest.mark.long
def test_who_waits_for_a_turn_is_told_that_the_directory_is_gone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipes, "QUESTION_S", 60.0)
    bench.take()
    process = bench.start(COUNT)
    until(lambda: _waits_for_a_turn(process))
    folder = bench.helper.folder.path
    bench.run(f"rm -rf {folder}")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (69, b"") and b"the worker does not answer" in err
    assert bench.run(COUNT)[0] == 127
    assert bench.helper.settle(DONE) == DONE


def _waits_for_a_turn(process: subprocess.Popen[bytes]) -> bool:
    found = subprocess.run(
        ["pgrep", "-g", str(process.pid), "-x", "dd"], capture_output=True, check=False
    )
    return bool(found.stdout)


@pytest.mark.long
def test_a_disk_without_room_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers are told, instead of waiting for a turn that does not come."""
    real, has_room = os.mkfifo, threading.Event()

    def mkfifo(path: str, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
        if not has_room.is_set() and ".out" in path:
            raise OSError(28, "No space left on device")
        real(path, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkfifo", mkfifo)
    bench.take()
    until(lambda: "No space left" in caplog.text)
    before = len(os.listdir("/proc/self/fd"))
    assert bench.run(COUNT)[0] == 69
    assert len(os.listdir("/proc/self/fd")) <= before
    has_room.set()
    assert bench.run(COUNT) == SEVEN
    assert len(os.listdir(bench.helper.folder.path)) == 10


def test_an_answer_that_is_cut_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are kept back until they are whole."""
    monkeypatch.setattr(pipes, "ANSWER_S", 0.2)
    bench.platform.state = Seen(3, {"big": "a line\n" * 100_000}, written={"big": 3})
    stop = "sh -c 'kill -STOP $PPID'"
    changed = _changed(bench, "$(cat; printf x)", f"$({stop}; cat; printf x)")
    process = bench.start(f"{changed} state get big")
    until(lambda: _stands_still(process))
    until(lambda: not list(bench.helper.folder.path.glob("00000001.*")))
    os.killpg(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (69, b"") and b"did not come whole" in err


def test_a_helper_that_cannot_begin_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkfifo", refuse)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space"):
        Bench(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_look_costs_little(bench: Bench) -> None:
    """Each attempt with the command looks once a second."""
    before = time.thread_time()
    for _ in range(100):
        bench.helper._look()
    assert (time.thread_time() - before) / 100 < 0.002
