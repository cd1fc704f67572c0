"""What the guard program does with what it is told, message by message."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runners.guard import strays
from runners.guard.sentry import Sentry


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        yield process
        process.kill()


def tell(*messages: str) -> None:
    """A guard that hears these messages, and then no more of its owner."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    for message in messages:
        os.write(writing, f"{message}\n".encode())
    os.close(writing)
    Sentry(reading, None).run()
    os.close(reading)


def assert_lives(process: subprocess.Popen[bytes]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)


def test_a_program_gets_its_own_signals(sleeper: subprocess.Popen[bytes]) -> None:
    tell(f"program {strays.identify(sleeper.pid)} 0 {int(signal.SIGINT)}:5.0")
    assert sleeper.wait(5) == -signal.SIGINT


def test_a_program_whose_number_another_has_by_now_is_not_hit(
    sleeper: subprocess.Popen[bytes],
) -> None:
    tell(f"program {sleeper.pid}-1 0 {int(signal.SIGTERM)}:0.1")
    assert_lives(sleeper)


def test_beats_that_came_while_the_guard_stood_still_count(
    sleeper: subprocess.Popen[bytes],
) -> None:
    """Even when that was between its look into the pipe and the one at the clock."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    class Stopped(Sentry):
        def _remember(self) -> None:
            if not self._is_over and self._beat == began:
                time.sleep(1.2)
                os.write(writing, f"beat {strays.read_clock()}\nforget {sleeper.pid}\n".encode())
                os.close(writing)

    sentry, began = Stopped(reading, None), round(strays.read_clock(), 3)
    told = f"lease 1 1 mark-of-nobody\nwatch {sleeper.pid}\nbeat {began}\n"
    os.write(writing, told.encode())
    sentry._beat = 0.0
    sentry.run()
    os.close(reading)
    assert_lives(sleeper)


def test_what_is_forgotten_is_not_hit(sleeper: subprocess.Popen[bytes]) -> None:
    lease = "lease 60 1 mark-of-nobody"
    program = f"program {strays.identify(sleeper.pid)} 0 {int(signal.SIGTERM)}:0.1"
    tell(lease, program, f"watch {sleeper.pid}", f"forget {sleeper.pid}")
    assert_lives(sleeper)


def test_steps_end_before_programs_and_directories_last(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    note = "trap 'test -d \"$1\" && date +%s%N; exit' TERM; echo up; while :; do sleep 0.02; done"
    with contextlib.ExitStack() as stack:
        step, program = (
            stack.enter_context(
                subprocess.Popen(
                    ["sh", "-c", note, "sh", str(folder)],
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                    text=True,
                )
            )
            for _ in range(2)
        )
        assert step.stdout is not None and program.stdout is not None
        assert step.stdout.readline() == program.stdout.readline() == "up\n"
        tell(
            "lease 60 5 mark-of-nobody",
            f"program {strays.identify(program.pid)} 0 {int(signal.SIGTERM)}:5.0",
            f"folder {folder}",
            f"watch {step.pid}",
        )
        assert int(step.stdout.read()) < int(program.stdout.read())
    assert not folder.exists()


def test_looks_after_the_owners_end_forget_nothing_that_hides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = "(env -i setsid sleep 300 & echo hidden $!); sleep 300; true"
    owner = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import ctypes, subprocess as s, sys; ctypes.CDLL(None).prctl(36, 1); p = s.Popen("
            "['sh', '-c', sys.argv[1]], start_new_session=True); print('group', p.pid, flush=True);"
            " p.wait()",
            step,
        ],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    said = dict(owner.stdout.readline().split() for _ in range(2))
    group, hidden = int(said["group"]), int(said["hidden"])
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, f"lease 60 0.2 mark-of-nobody\nwatch {group}\n".encode())
    sentry = Sentry(reading, None, strays.identify(owner.pid))
    thread = threading.Thread(target=sentry.run)
    thread.start()

    def look(is_enough: Callable[[], bool]) -> None:
        """The thread's switches do not count its looks: it also waits for other threads."""
        deadline = time.monotonic() + 20
        while not is_enough():
            assert time.monotonic() < deadline, "the guard does not look"
            time.sleep(0.02)

    look(lambda: hidden in sentry._below)
    owner.kill()  # and nobody reaps it yet
    asked = []
    monkeypatch.setattr(strays, "list_below", lambda *of: asked.append(of) or {})
    look(lambda: len(asked) > 1)
    os.close(writing)
    thread.join()
    os.close(reading)
    owner.wait()
    owner.stdout.close()
    assert not psutil.pid_exists(hidden) or not strays.is_alive(strays.identify(hidden))


def test_an_owner_that_is_gone_before_its_guard_watches_leaves_nothing(
    sleeper: subprocess.Popen[bytes],
) -> None:
    reading, writing = os.pipe()
    ready, done = os.pipe()
    os.write(writing, f"program {strays.identify(sleeper.pid)} 0 15:5.0\n".encode())
    for fd in (writing, ready):
        os.close(fd)
    code = "import sys; from runners.guard import sentry; sentry.main(sys.argv[1:])"
    subprocess.run(
        [sys.executable, "-c", code, str(reading), str(done), "0-0"],
        pass_fds=(reading, done),
        cwd=Path(__file__).parents[2],
        check=True,
    )
    for fd in (reading, done):
        os.close(fd)
    assert sleeper.wait(10) == -signal.SIGTERM
