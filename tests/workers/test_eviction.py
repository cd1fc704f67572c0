"""What a process's end proves when its worker is told to leave at about the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from engine.orders import StepOutcome, Verdict
from workers.process import AROUND_S, BY_SLURM, TOGETHER, Eviction

DONE = StepOutcome(Verdict.SUCCEEDED, 0)
KILLED = StepOutcome(Verdict.FAILED, 143, "Exit code: 143")


def test_without_a_signal_an_end_is_what_it_says() -> None:
    for eviction in (Eviction(), Eviction(by_slurm=True)):
        assert eviction.judge(DONE, time.monotonic()) is DONE
        assert eviction.judge(KILLED, time.monotonic()) is KILLED


@pytest.mark.parametrize("outcome", [DONE, KILLED])
def test_in_an_allocation_whatever_ends_around_the_signal_is_lost(outcome: StepOutcome) -> None:
    eviction = Eviction(by_slurm=True)
    began_at = time.monotonic() - 60
    timer = threading.Timer(0.1, eviction.note)  # the step's turn came first
    timer.start()
    assert eviction.judge(outcome, began_at) == StepOutcome(
        Verdict.LOST, outcome.exit_code, BY_SLURM
    )


def test_what_began_after_the_signal_has_ended_by_itself() -> None:
    """As actions on leaving the job do."""
    eviction = Eviction(by_slurm=True)
    eviction.note()
    assert eviction.judge(DONE, time.monotonic()) is DONE


@pytest.mark.parametrize(
    ("outcome", "is_group_told", "is_lost"),
    [(DONE, False, False), (DONE, True, True), (KILLED, False, True), (KILLED, True, True)],
)
def test_elsewhere_a_success_counts_unless_others_were_signalled_too(
    outcome: StepOutcome, is_group_told: bool, is_lost: bool
) -> None:
    eviction = Eviction()
    eviction.is_group_told = lambda: is_group_told
    began_at = time.monotonic()
    eviction.note()
    judged = eviction.judge(outcome, began_at)
    assert judged == (
        StepOutcome(Verdict.LOST, outcome.exit_code, TOGETHER) if is_lost else outcome
    )


@pytest.mark.parametrize(("ran_s", "is_lost"), [(20.0, True), (0.01, False)])
def test_a_success_in_the_moment_of_the_signal_counts_unless_its_process_has_run_for_long(
    ran_s: float, is_lost: bool
) -> None:
    """Whoever signals step and worker alone leaves no other sign."""
    eviction = Eviction()
    began_at = time.monotonic() - ran_s
    eviction.note()
    judged = eviction.judge(DONE, began_at, time.monotonic() + 0.005)
    assert (judged.verdict is Verdict.LOST) is is_lost


def test_a_success_some_time_before_or_after_the_signal_counts() -> None:
    eviction = Eviction()
    began_at = time.monotonic() - 3600
    eviction.note()
    for ended_at in (time.monotonic() + 2 * AROUND_S, time.monotonic() - 2 * AROUND_S):
        assert eviction.judge(DONE, began_at, ended_at) is DONE


def test_what_the_worker_ended_itself_stays_as_it_is() -> None:
    eviction = Eviction(by_slurm=True)
    began_at = time.monotonic()
    eviction.note()
    for verdict in (Verdict.CANCELLED, Verdict.TIMED_OUT, Verdict.LOST):
        outcome = StepOutcome(verdict, 143, "why")
        assert eviction.judge(outcome, began_at) is outcome


def test_a_signal_that_the_main_thread_has_not_seen_yet_counts() -> None:
    """Another thread judges while the main thread, busy in C, runs no handler."""
    code = """
import hashlib, os, signal, threading, time
import django
django.setup()
from engine.orders import StepOutcome, Verdict
from workers.process import Eviction
eviction = Eviction()
eviction.is_group_told = lambda: True
signal.signal(signal.SIGTERM, lambda number, frame: eviction.note())
eviction.listen()
began_at = time.monotonic()
assert eviction.judge(StepOutcome(Verdict.SUCCEEDED, 0), began_at).verdict == "succeeded"
is_busy = False
def judge():
    while not is_busy:
        time.sleep(0)
    os.kill(os.getpid(), signal.SIGTERM)
    while not eviction._is_under_way():  # the system needs a moment to interrupt another thread
        pass
    print(eviction.is_told, eviction.judge(StepOutcome(Verdict.SUCCEEDED, 0), began_at).verdict)
thread = threading.Thread(target=judge)
thread.start()
is_busy = True
hashlib.pbkdf2_hmac("sha256", b"x", b"y", 600_000)  # holds no lock, and runs no handler
thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "lost"], done.stderr
