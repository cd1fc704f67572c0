"""What a worker started ends with it, however the worker ends. Every worker here is a process of
its own."""

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

from engine.errors import PlatformError
from engine.orders import Verdict
from runners.guard import guard as guards
from runners.guard import offspring, strays
from runners.guard.guard import Guard
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order

WORKER = """
import os, sys, threading, time
from pathlib import Path
from runners.guard import offspring
from runners.guard.guard import Guard
from runners.host.local import LocalConfig, LocalRunner
from tests.runners.contract import Log, Stop, build_order

if "NO_CELLS" in os.environ:
    offspring.make_cells = lambda keeper: None
folder, lease_s, margin_s, beat_s, *scripts = sys.argv[1:]
guard = Guard(float(lease_s), float(margin_s))
guard.start()
runner = LocalRunner(LocalConfig(cache_dir=Path(folder) / "cache"), guard)
def tell(text):
    os.write(1, (text + "\\n").encode())  # in one piece: several threads tell
def run(code):
    order, log = build_order(Path(folder), code, stop_grace_s=1.0), Log()
    tell(f"attempt {order.attempt}")
    threading.Thread(target=lambda: (log.wait_for("ready"), tell(log.texts()[0])), daemon=True).start()
    outcome = runner.run(order, log, Stop())
    tell(f"outcome {outcome.verdict}")
threads = [threading.Thread(target=run, args=(code,)) for code in scripts]
for thread in threads:
    thread.start()
tell(f"guard {guard.pid}")
while any(thread.is_alive() for thread in threads):
    time.sleep(float(beat_s))
    guard.beat()
guard.close()
"""
SLEEPER = "echo ready $$; sleep 300; true"
DAEMON = (
    "(setsid sh -c 'trap \"\" TERM; exec sleep 300' >/dev/null 2>&1 &); echo ready $$; sleep 300;"
    " true"
)
ISOLATE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
UNMARKED = "exec env -i /bin/sh -c 'echo ready $$; sleep 300; true'"


def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


class Worker:
    """A process with a guard and a local runner, whose steps are under way."""

    def __init__(
        self,
        folder: Path,
        *scripts: str,
        lease_s: float = 60,
        margin_s: float = 2,
        beat_s: float = 0.2,
        has_cells: bool = True,
        is_isolated: bool = False,
    ) -> None:
        """`is_isolated`: in a pid namespace of its own, as in a container."""
        root = Path(__file__).resolve().parents[2]
        numbers = [str(number) for number in (lease_s, margin_s, beat_s)]
        self.process = subprocess.Popen(
            [
                *(ISOLATE if is_isolated else ()),
                *(sys.executable, "-c", WORKER, str(folder), *numbers, *scripts),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root), **({} if has_cells else {"NO_CELLS": "1"})},
        )
        self.is_isolated = is_isolated
        self.attempts: set[str] = set()
        self.groups: set[int] = set()
        self.guard = 0
        waiting = len(scripts)
        while waiting or not self.guard:
            word, _, rest = self.read().partition(" ")
            match word:
                case "attempt":
                    self.attempts.add(rest)
                case "guard":
                    self.guard = int(rest)
                case "ready":
                    waiting -= 1
                    # numbers of another namespace mean other processes here
                    self.groups |= set() if is_isolated else {int(rest)}

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        if self.is_isolated:  # `unshare` ends with its child, and with that the namespace does
            for child in psutil.Process(self.process.pid).children():
                child.kill()
        else:
            self.process.kill()
        self.process.wait()

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def steps(self) -> set[int]:
        marked = {pid for attempt in self.attempts for pid in strays.Hunt(attempt=attempt).look()}
        return marked | strays.Hunt(self.groups).look()


@pytest.fixture
def launch(tmp_path):
    workers = []

    def begin(*scripts: str, **settings: float) -> Worker:
        workers.append(Worker(tmp_path, *scripts, **settings))
        return workers[-1]

    yield begin
    for worker in workers:
        worker.kill()
        strays.send(signal.SIGKILL, worker.steps())


def is_gone(pid: int) -> bool:
    process = strays.read_process(pid)
    return process is None or process.state in "ZX"


def test_steps_end_with_a_worker_that_is_killed(launch):
    worker = launch(SLEEPER, DAEMON, UNMARKED)
    until(lambda: len(worker.steps()) == 7)
    worker.process.kill()
    until(lambda: not worker.steps(), 10)
    until(lambda: is_gone(worker.guard))


@pytest.mark.sample(2)
@pytest.mark.parametrize("has_cells", [True, False], ids=["cgroup", "ancestry"])
def test_what_hides_ends_with_a_worker_that_is_killed(launch, has_cells):
    seconds = 70_000 + os.getpid() % 1000 * 10 + has_cells
    hider = f"(env -i setsid sh -c '(trap \"\" TERM HUP; exec sleep {seconds}) &' >&- 2>&- &)"
    wait = f"until ps -eo args= | grep -qx 'sleep {seconds}'; do sleep 0.01; done"
    worker = launch(f"{hider}; {wait}; echo ready $$; sleep 300; true", has_cells=has_cells)
    looked = psutil.Process(worker.guard).num_ctx_switches().voluntary
    until(lambda: psutil.Process(worker.guard).num_ctx_switches().voluntary > looked + 2)
    worker.process.kill()
    until(lambda: is_gone(worker.guard))
    found = subprocess.run(["ps", "-eo", "args="], capture_output=True, text=True, check=True)
    assert f"sleep {seconds}" not in found.stdout.splitlines()
    assert offspring.find_parent() is None or not [
        name for name in os.listdir(offspring.find_parent()) if f"-{worker.process.pid}-" in name
    ]


def test_steps_end_when_the_workers_whole_tree_is_killed(launch):
    worker = launch(SLEEPER, DAEMON)
    tree = psutil.Process(worker.process.pid).children(recursive=True)
    assert worker.guard not in {process.pid for process in tree}
    for process in (psutil.Process(worker.process.pid), *tree):
        with contextlib.suppress(psutil.NoSuchProcess):  # the guard was quicker
            process.kill()
    until(lambda: not worker.steps(), 10)
    until(lambda: is_gone(worker.guard))


def test_the_guard_shares_neither_session_nor_parent_with_its_worker(launch):
    worker = launch(SLEEPER)
    guard = strays.read_process(worker.guard)
    assert guard.ppid != worker.process.pid
    assert guard.sid not in {os.getsid(worker.process.pid), os.getsid(0)}


@pytest.mark.long
def test_steps_end_when_the_worker_is_stopped_for_longer_than_its_lease(launch):
    worker = launch(SLEEPER, DAEMON, lease_s=4, margin_s=2)
    worker.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: not worker.steps(), 10)
    assert time.monotonic() - began < 4 + 0.5, "not before the lease was over"
    worker.process.send_signal(signal.SIGCONT)
    assert {worker.read(), worker.read()} == {"outcome lost"}


@pytest.mark.long
def test_steps_live_while_the_worker_beats(launch):
    worker = launch(SLEEPER, lease_s=2, margin_s=1, beat_s=0.2)
    time.sleep(3)
    assert worker.steps()


@pytest.mark.long
def test_a_worker_that_beats_no_more_loses_its_steps(launch):
    worker = launch(SLEEPER, lease_s=3, margin_s=1.5, beat_s=60)
    until(lambda: not worker.steps(), 5)
    assert worker.read() == "outcome lost"


def test_a_guard_that_was_killed_is_replaced_and_knows_the_steps(launch):
    worker = launch(UNMARKED)
    os.kill(worker.guard, signal.SIGKILL)
    until(lambda: is_gone(worker.guard))
    time.sleep(0.5)  # a beat or two tell the worker
    worker.process.kill()
    until(lambda: not worker.steps(), 10)


def test_a_guard_that_stood_still_ends_nothing_once_it_is_replaced(sleeper):
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    guard.watch(sleeper.pid)
    first = guard.pid
    os.kill(first, signal.SIGSTOP)
    number = 4_000_000
    while guard.pid == first:  # until the pipe is full
        guard.watch(number)
        guard.forget(number)
    with contextlib.suppress(ProcessLookupError):
        os.kill(first, signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(1)
    assert is_gone(first)
    guard.close()  # the next one knows it
    assert sleeper.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("kind", [lambda: Guard(60, 2), guards.GuardProcess])
def test_a_guard_that_was_stopped_is_replaced_at_the_next_beat(sleeper, kind, caplog):
    guard = kind()
    guard.launch()
    first = guard.pid
    guard.beat()
    assert guard.pid == first and not caplog.records
    guard.watch_program(sleeper.pid, 0, [(signal.SIGTERM, 5.0)])
    os.kill(first, signal.SIGSTOP)
    until(lambda: strays.read_process(first).state == "T")
    guard.beat()
    assert guard.pid != first and is_gone(first)
    assert "the guard process was stopped" in caplog.text
    guard.close()  # the next one knows it
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_guard_that_was_stopped_while_it_starts_is_replaced(sleeper, monkeypatch):
    """A command that does not wait for its guard goes on with another."""
    guard = guards.GuardProcess()
    with monkeypatch.context() as patch:
        patch.setattr(guards, "_PROGRAM", "import time; time.sleep(60)")
        guard.launch()
    guard.watch_program(sleeper.pid, 0, [(signal.SIGTERM, 5.0)])
    guard.beat()
    assert guard._starting is not None
    monkeypatch.setattr(guard, "_launched_at", guard._launched_at - guards._START_S)
    guard.beat()
    assert guard.pid
    guard.close()
    assert sleeper.wait(10) == -signal.SIGTERM


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        yield process
        process.kill()


def sessions_alive() -> set[int]:
    return {process.sid for process in strays.list_processes() if strays.is_living(process)}


def test_a_guard_that_stands_still_while_it_starts_is_no_guard(monkeypatch):
    program = "import os, sys, time; os.fork(); time.sleep(60)"
    guard, known = Guard(lease_s=60, margin_s=2), set(strays.guards)
    monkeypatch.setattr(guards, "_PROGRAM", program)
    monkeypatch.setattr(guards, "_START_S", 0.5)
    with pytest.raises(PlatformError, match="stood still while it started"):
        guard.start()
    until(lambda: not sessions_alive() & (strays.guards - known), 5)
    monkeypatch.undo()
    guard.start()
    guard.close()
    guard.wait()


def test_a_guard_that_starts_too_slowly_to_read_is_replaced(sleeper, monkeypatch):
    """What it was told by then is not ended by it."""
    slow = f"import time; time.sleep(3); {guards._PROGRAM}"
    monkeypatch.setattr(guards, "_PROGRAM", slow)
    guard = guards.GuardProcess()
    guard.launch()
    monkeypatch.undo()
    guard.watch_program(sleeper.pid, 0, [(signal.SIGTERM, 5.0)])
    number = 4_000_000
    while guard._starting is not None:  # until the pipe is full
        guard.watch_program(number, 0, [])
        guard.forget(number)
    with pytest.raises(subprocess.TimeoutExpired):
        sleeper.wait(3.5)
    guard.close()
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_guard_that_was_stopped_ends_with_its_owner(sleeper):
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    guard.watch(sleeper.pid)
    os.kill(guard.pid, signal.SIGSTOP)
    guard.close()
    assert sleeper.wait(10) == -signal.SIGTERM
    guard.wait()


def test_a_guard_that_is_stopped_while_it_ends_programs_is_waited_for_and_goes_on(sleeper):
    guard = guards.GuardProcess()
    guard.launch()
    pid = guard.pid
    guard.watch_program(sleeper.pid, 0, [(signal.SIGCONT, 0.5), (signal.SIGTERM, 5.0)])
    guard.close()
    os.kill(pid, signal.SIGSTOP)
    guard.wait()
    assert sleeper.wait(10) == -signal.SIGTERM


def test_a_long_message_comes_whole_through_a_pipe_that_takes_it_in_parts():
    """Settings of engines have up to 40 KB, and a pipe as few as 64."""
    guard, heard = guards.GuardProcess(), []
    reading, guard._pipe = os.pipe()
    os.set_blocking(guard._pipe, False)

    def read() -> None:
        while data := os.read(reading, 1000):
            heard.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    assert guard._write("x" * 300_000) and guard._write("y")
    guard._hang_up()
    reader.join()
    os.close(reading)
    assert b"".join(heard) == b"x" * 300_000 + b"\ny\n"


def test_a_process_that_the_guard_was_not_told_of_is_found_by_its_mark(tmp_path):
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    mark = {**os.environ, **strays.mark("never-told", guard.keeper)}
    with subprocess.Popen(["sleep", "300"], env=mark, start_new_session=True) as process:
        guard.close()
        assert process.wait(10) == -signal.SIGTERM


def test_a_guard_that_is_closed_spares_what_is_another_guards():
    """Even one of the same process, that began before or begins before it is gone."""
    first, second = (Guard(lease_s=60, margin_s=2) for _ in range(2))
    first.start()
    second.start()
    mark = {**os.environ, **strays.mark("never-told", first.keeper)}
    with subprocess.Popen(["sleep", "300"], env=mark, start_new_session=True) as process:
        try:
            second.close()
            second.wait()
            if first.cells is not None:
                place = first.cells.admit(process.pid)
                first.cells.enclose(place)
                assert place.cell is not None and place.cell.is_occupied
            assert process.poll() is None
        finally:
            first.close()
        assert process.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)


def test_a_guard_that_is_closed_is_gone(tmp_path):
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    pid = guard.pid
    assert not is_gone(pid)
    guard.close()
    guard.close()
    until(lambda: is_gone(pid))


def test_the_guard_ignores_the_signals_of_a_terminal_and_of_a_service_manager(tmp_path):
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard.pid, number)
    time.sleep(0.2)
    assert not is_gone(guard.pid)
    guard.close()


def test_the_guards_process_is_small():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from runners.guard import sentry;"
        " print(*sys.modules)"
    )
    root = str(Path(__file__).resolve().parents[2])
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root], capture_output=True, text=True, check=True
    )
    loaded = set(answer.stdout.split())
    assert not loaded & {
        "django",
        "subprocess",
        "threading",
        "psutil",
        "dataclasses",
        "json",
        "logging",
    }


def test_a_margin_that_leaves_no_lease_is_refused():
    for lease_s, margin_s in ((5, 5), (5, 9), (5, 0)):
        with pytest.raises(ValueError, match="margin"):
            Guard(lease_s, margin_s)


def test_many_steps_at_once_are_all_known(tmp_path):
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as process:
        for number in range(20_000):
            guard.watch(4_000_000 + number)
            guard.forget(4_000_000 + number)
        guard.watch(process.pid)
        guard.close()
        assert process.wait(10) == -signal.SIGTERM


def test_a_local_runner_ends_what_dead_workers_left(launch, tmp_path):
    worker = launch(SLEEPER, beat_s=60)  # a beat would replace the guard
    os.kill(worker.guard, signal.SIGKILL)
    until(lambda: is_gone(worker.guard))
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    assert worker.steps()
    runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"))
    runner.sweep(frozenset(worker.attempts))
    assert worker.steps()
    runner.sweep(frozenset())
    assert not worker.steps()


@pytest.mark.long
def test_a_sweep_spares_the_steps_of_other_workers_of_this_host(launch, tmp_path):
    worker = launch(SLEEPER)
    LocalRunner(LocalConfig(cache_dir=tmp_path / "cache")).sweep(frozenset())
    assert worker.steps()


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes pid namespaces")
def test_a_sweep_spares_the_steps_of_workers_in_other_pid_namespaces(launch, tmp_path):
    first, second = (launch(SLEEPER, DAEMON, is_isolated=True) for _ in range(2))
    here = launch(SLEEPER)
    alive = {worker: worker.steps() for worker in (first, second, here)}
    assert all(alive.values())
    for _ in range(2):
        LocalRunner(LocalConfig(cache_dir=tmp_path / "cache")).sweep(frozenset())
    assert {worker: worker.steps() for worker in alive} == alive


def test_nobody_ends_a_keeper_that_it_cannot_judge():
    me, nobody = strays.identify_keeper(os.getpid()), "4194303-1"
    place = me.partition("@")[2]
    assert not strays.has_ended(me)
    assert strays.has_ended(f"{nobody}@{place}")
    assert not strays.has_ended(strays.identify_keeper(os.getpid(), 2))
    assert strays.has_ended(f"{nobody}+2@{place}")
    boot, _, namespace = place.partition("/")
    for elsewhere in (f"@{boot}/1", f"@0{boot[1:]}1/{namespace}", "@", ""):
        assert not strays.has_ended(nobody + elsewhere)


def test_a_worker_without_a_free_descriptor_holds_nobody_dead():
    code = (
        "import os, resource, sys; sys.path.insert(0, sys.argv[1]); from runners.guard import"
        " strays\nme = strays.identify(os.getpid())\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "print(strays.is_alive(me), strays.is_alive('4194303-1'))"
    )
    root = str(Path(__file__).resolve().parents[2])
    answer = subprocess.run(
        [sys.executable, "-c", code, root], capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == ["True", "False"]


def test_workers_of_early_versions_do_not_find_what_they_cannot_judge():
    """To them, a keeper in another pid namespace is dead."""
    assert strays.mark("a", "1-2@3").keys().isdisjoint({"STROEM_ATTEMPT", "STROEM_GUARD"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes pid namespaces")
def test_two_workers_with_the_same_number_and_start_have_marks_of_their_own():
    """In containers every worker is process 1 or 7, often started in the same moment."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from runners.guard import strays;"
        " print(strays.identify_keeper(os.getpid()))"
    )
    root = str(Path(__file__).resolve().parents[2])
    running = [
        subprocess.Popen(
            [*ISOLATE, sys.executable, "-c", code, root], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    marks = {process.communicate()[0].strip() for process in running}
    assert {mark.partition("-")[0] for mark in marks} == {"1"}
    assert len({mark.partition("@")[2] for mark in marks}) == 2


def test_a_step_that_cannot_be_guarded_does_not_go_on(tmp_path, monkeypatch):
    """Its worker reports it as failed: nothing of it may run any more."""
    guard = Guard(lease_s=60, margin_s=2)
    guard.start()
    runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"), guard)
    os.kill(guard.pid, signal.SIGKILL)
    until(lambda: is_gone(guard.pid))
    monkeypatch.setattr(guards.sys, "executable", "/nowhere/python")  # no other one can start
    order = build_order(tmp_path, "sleep 300; true")
    with pytest.raises(PlatformError, match="could not be started"):
        runner.run(order, Log(), Stop())
    assert not strays.Hunt(attempt=order.attempt).look()


def test_a_runner_without_a_guard_works(tmp_path):
    runner = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"))
    assert runner.run(build_order(tmp_path, "true"), Log(), Stop()).verdict is Verdict.SUCCEEDED
