"""When the consumer of an event source starts, stops, and starts again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.sources import NEW_FILES, Consumer, Note, Source, Start, Stop, decide

RUNNING = Consumer(1, is_open=True)
DONE = Consumer(1, is_open=False)
FAILED = Consumer(1, is_open=False, has_failed=True)
LOST = replace(FAILED, is_lost=True)
NOTED = replace(DONE, is_noted=True)


def source(consumer: Consumer | None = None, policy: Any = "always", **more: Any) -> Source:
    return Source(policy, 5.0, more.pop("revision_id", 1), consumer, **more)


@pytest.mark.parametrize(
    ("seen", "todo"),
    [
        (source(), Start()),
        (source(is_due=False), None),
        (source(unwanted="paused"), None),
        (source(revision_id=None), None),
        (source(RUNNING), None),
        (source(RUNNING, unwanted="paused"), Stop("paused")),
        (source(RUNNING, revision_id=2), Stop(NEW_FILES)),
        (source(RUNNING, revision_id=None), Stop(NEW_FILES)),
        (source(replace(RUNNING, is_stopping=True), unwanted="paused"), None),
        (source(replace(DONE, is_stopping=True), failures=3), Note(0, 0.0)),
        (source(DONE), Note(0, 1.0)),
        (source(DONE, "on_failure"), Note(0, None)),
        (source(DONE, "never"), Note(0, None)),
        (source(FAILED), Note(1, 5.0)),
        (source(FAILED, "on_failure", failures=2), Note(3, 20.0)),
        (source(FAILED, failures=40), Note(41, 300.0)),
        (source(replace(FAILED, ran_s=301.0), failures=40), Note(1, 5.0)),
        (source(FAILED, "never"), Note(0, None)),
        (source(LOST, "never"), Note(1, 5.0)),
        (source(NOTED), Start()),
        (source(NOTED, is_due=False), None),
        (source(NOTED, "never", is_resting=True), None),
        (source(NOTED, "never", is_resting=True, revision_id=2), Start()),
        (source(NOTED, "never", is_resting=True, unwanted="paused"), Note(0, 0.0)),
        (source(NOTED, unwanted="paused"), None),
    ],
)
def test_one_consumer_is_alive_where_one_is_wanted(seen: Source, todo: object) -> None:
    assert decide(seen) == todo
