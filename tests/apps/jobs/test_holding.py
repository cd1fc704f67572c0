"""Attempts by the names that engines and clusters know them by: which are over, and which are not
ours to judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from apps.jobs import ledger
from tests.apps.jobs.builders import Hand, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)

FLOW = """
actions: {work: {type: script, script: "true"}}
tasks: {main: {flow: {one: {action: work}, two: {action: work}}}}
"""


def test_only_attempts_that_have_ended_are_over(tmp_path: Path) -> None:
    start(workspace(tmp_path, FLOW))
    hand = Hand()
    running, done = hand.claim(), hand.claim()
    assert running is not None and done is not None
    hand.finish(done)
    assert ledger.ended(frozenset({running.name, done.name})) == {done.name}


def test_the_attempt_before_is_over_while_the_next_one_runs(tmp_path: Path) -> None:
    start(workspace(tmp_path, FLOW))
    hand = Hand()
    first = hand.take("one")
    ledger.give_back(first)
    second = hand.take("one")
    assert ledger.ended(frozenset({first.name, second.name})) == {first.name}


def test_an_attempt_of_another_installation_is_never_called_over(tmp_path: Path) -> None:
    """Numbered like ours, and begun in the same moment: such ids share their first digits, which
    are a time."""
    start(workspace(tmp_path, FLOW))
    hand = Hand()
    ours = hand.claim()
    assert ours is not None
    hand.finish(ours)
    twin = UUID(ours.job_id.hex[:20] + "0123456789ab")
    theirs = replace(ours, job_id=twin).name
    assert theirs != ours.name
    assert ledger.ended(frozenset({ours.name, theirs, "t-0123", "", "x" * 300})) == {ours.name}


def test_a_name_fits_where_engines_and_clusters_take_it(tmp_path: Path) -> None:
    start(workspace(tmp_path, FLOW))
    claim = Hand().claim()
    assert claim is not None
    longest = replace(claim, job_id=UUID(int=2**128 - 1), step_id=10**15, fence=10**6).name
    assert len(longest) <= 40 and set(longest) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
