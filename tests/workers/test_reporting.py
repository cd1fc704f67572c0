"""No line is lost, doubled or moved, whatever the database does."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import OperationalError

from engine.orders import Line
from tests.workers.fakes import claim
from workers import reporting
from workers.reporting import LogPump, Reporter

ONE = claim(1)


class Store:
    """Keeps batches by (attempt, seq), as the ledger does; `away` makes it an outage, `unknown` a
    lost answer."""

    def __init__(self) -> None:
        self.batches: dict[int, tuple[Line, ...]] = {}
        self.away = False
        self.unknown = 0
        self.calls = 0
        self.is_ours = True
        self.changed = threading.Condition()

    def __call__(self, claim, seq, lines) -> bool:
        with self.changed:
            self.calls += 1
            self.changed.notify_all()
            if self.away:
                raise OperationalError("away")
            if self.is_ours:
                self.batches.setdefault(seq, tuple(lines))
            if self.unknown:
                self.unknown -= 1
                raise OperationalError("the answer was lost")
            return self.is_ours

    def wait_for(self, condition) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 10), "did not happen in time"

    def texts(self, *rest) -> list[str]:
        stored = {**self.batches, **dict(rest)}
        return [line.text for seq in sorted(stored) for line in stored[seq]]


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def pump(store):
    pump = LogPump(store, lambda: None)
    pump.start()
    yield pump
    pump.close()
    pump.join(5)


def say(reporter: Reporter, *texts: str) -> None:
    for text in texts:
        reporter(Line(time.time(), "stdout", text))


def test_lines_are_sent_within_half_a_second(store, pump):
    reporter = Reporter(ONE, (), pump)
    began = time.monotonic()
    say(reporter, "first")
    store.wait_for(lambda: store.texts() == ["first"])
    assert time.monotonic() - began < 0.7
    assert reporter.close() == ()


def test_what_was_not_sent_is_handed_out_at_the_end(store, pump):
    reporter = Reporter(ONE, (), pump)
    say(reporter, "a", "b")
    assert [(seq, [line.text for line in lines]) for seq, lines in reporter.close()] == [
        (1, ["a", "b"])
    ]


def test_many_lines_make_batches_of_bounded_size_in_order(store, pump):
    reporter = Reporter(ONE, (), pump)
    texts = [f"{number:06} " + "x" * 200 for number in range(20_000)]
    say(reporter, *texts)
    rest = reporter.close()
    assert store.texts(*rest) == texts
    assert (
        max(sum(len(line.text) for line in lines) for lines in store.batches.values())
        <= reporting.BATCH_BYTES
    )


def test_lines_survive_an_outage_and_a_lost_answer_doubles_none(store, pump):
    reporter = Reporter(ONE, (), pump)
    store.away = True
    say(reporter, "a")
    store.wait_for(lambda: store.calls >= 2)
    say(reporter, "b")
    store.unknown = 1
    store.away = False
    store.wait_for(lambda: store.texts() == ["a", "b"])
    say(reporter, "c")
    assert store.texts(*reporter.close()) == ["a", "b", "c"]


def test_a_flood_during_an_outage_is_bounded_and_the_gap_is_marked(store, pump):
    reporter = Reporter(ONE, (), pump)
    store.away = True
    say(reporter, "start")
    store.wait_for(lambda: store.calls >= 1)
    began = time.monotonic()
    count = reporting.SPOOL_BYTES // 10_000 + 500
    say(reporter, *["y" * 10_000] * count)
    assert time.monotonic() - began < 5, "the step's output waits for nobody"
    store.away = False
    store.wait_for(lambda: store.texts() and "dropped" in store.texts()[-1])
    texts = store.texts(*reporter.close())
    marker = next(text for text in texts if "were dropped here" in text)
    assert int(marker.split()[0]) + len(texts) - 2 == count


def test_lines_of_an_attempt_that_is_not_ours_any_more_are_forgotten(store, pump):
    reporter = Reporter(ONE, (), pump)
    store.is_ours = False
    say(reporter, "late")
    store.wait_for(lambda: store.calls >= 1)
    say(reporter, "later")
    assert reporter.close() == () and store.batches == {}


def test_a_secret_that_is_printed_piece_by_piece_is_hidden_and_the_line_is_not_kept_for_ever(
    store, pump, monkeypatch
):
    monkeypatch.setattr(reporting, "HELD_S", 0.2)
    reporter = Reporter(ONE, ("hunter2-hunter2",), pump)
    say(reporter, "pw hunter2-", "hunter2 end")
    store.wait_for(lambda: store.texts() == ["pw ••••••", "•••••• end"])
    say(reporter, "is it hunt")
    store.wait_for(lambda: store.texts()[-1] == "is it hunt")
    reporter.close()
