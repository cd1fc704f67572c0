"""What tidies up behind steps."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from workers.lane import Tidiers

LIMIT_S = 30.0


def _wait(event: threading.Event) -> None:
    assert event.wait(LIMIT_S)


def test_it_sweeps_beside_the_one_who_asked() -> None:
    swept_by: list[str] = []
    Tidiers().sweep(lambda: swept_by.append(threading.current_thread().name)).wait()
    assert swept_by == ["tidier"]


def test_what_is_short_is_done_once_by_the_one_who_asked() -> None:
    swept_by: list[str] = []
    sweep = Tidiers().sweep(
        lambda: swept_by.append(threading.current_thread().name), is_short=lambda: True
    )
    assert not swept_by
    sweep.begin()
    sweep.begin()
    assert swept_by == [threading.current_thread().name]
    sweep.wait()
    assert len(swept_by) == 1


def test_it_waits_until_it_is_let_and_sweeps_once() -> None:
    swept: list[int] = []
    tidiers = Tidiers()
    sweep = tidiers.sweep(lambda: swept.append(1))
    tidiers.sweep(lambda: None).wait()  # a tidier works in order: this one was not queued before it
    assert not swept
    sweep.begin()
    sweep.begin()
    sweep.wait()
    tidiers.sweep(lambda: None).wait()
    assert swept == [1]


def test_nobody_waits_for_a_neighbour_s_sweep() -> None:
    tidiers, is_done = Tidiers(), threading.Event()
    slow = tidiers.sweep(partial(_wait, is_done))
    slow.begin()
    neighbour = threading.Thread(target=lambda: tidiers.sweep(lambda: None).wait(), daemon=True)
    neighbour.start()
    neighbour.join(LIMIT_S / 2)
    assert not neighbour.is_alive() and not is_done.is_set()
    is_done.set()
    slow.wait()


def test_what_cannot_be_tidied_is_logged_and_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tidiers = Tidiers()

    def break_down() -> None:
        raise OSError("disk on fire")

    tidiers.sweep(break_down).wait()
    tidiers.sweep(lambda: None).wait()
    assert "disk on fire" in caplog.text
