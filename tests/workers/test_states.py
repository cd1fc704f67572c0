"""Directories of state: filled before a step, read after it, whatever it left there."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from django.db import OperationalError

from apps.jobs.ledger import Material
from engine.orders import ScriptWork, StepOrder, StepOutcome, Verdict
from engine.state import Change, Left, Seen, StateFile
from tests.workers.fakes import claim, material
from workers import states
from workers.attempts import Attempt
from workers.states import States
from workers.trees import Scratch

DONE = StepOutcome(Verdict.SUCCEEDED, 0)


class Shelf:
    """A storage in memory. `outages`: how many calls fail first."""

    def __init__(self) -> None:
        self.bytes: dict[int, bytes] = {}
        self.outages = 0

    def open_file(self, file: StateFile) -> Any:
        return io.BytesIO(self.bytes[file.blob])

    def store_file(self, path: str, data: BinaryIO, *, is_program: bool) -> StateFile:
        if self.outages:
            self.outages -= 1
            raise OperationalError("the storage is away")
        found = data.read()
        number = len(self.bytes) + 1
        self.bytes[number] = found
        return StateFile(path, len(found), hashlib.sha256(found).hexdigest(), is_program, number)

    def released(self) -> None:
        pass

    def texts(self, files: Any) -> dict[str, bytes]:
        return {file.path: self.bytes[file.blob] for file in files}


class Place:
    """One attempt with its directories."""

    def __init__(self, folder: Path, seen: tuple[Seen, Seen], shelf: Shelf) -> None:
        scratch = folder / "scratch"
        scratch.mkdir(mode=0o700)
        self.shelf, self.states, self.seen = shelf, States(shelf), seen
        self.attempt = Attempt(claim(), 0.0)
        self.said: list[str] = []
        self.folders = self.states.open(
            Scratch(scratch, scratch / "input.json", scratch / "left", scratch / "taken"), seen
        )
        self.order = StepOrder(
            "a", "j", "t", "s", "w", 1, ScriptWork(code="true"), scratch, state=self.folders
        )

    @property
    def out(self) -> Path:
        return self.folders.task[1]

    def left(self, outcome: StepOutcome = DONE) -> tuple[StepOutcome, Left | None]:
        given: Material = material(state=self.seen)
        return self.states.remember(self.attempt, given, self.order, outcome, self.said.append)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def place(tmp_path: Path, shelf: Shelf) -> Place:
    return Place(tmp_path, (Seen(), Seen()), shelf)


def test_what_is_remembered_lies_in_the_directories(tmp_path: Path, shelf: Shelf) -> None:
    shelf.bytes = {7: b"echo", 8: b"wide"}
    files = (StateFile("bin/run", 4, "d", True, 7),)
    place = Place(
        tmp_path, (Seen(3, {"n": 1}, files), Seen(1, {}, (StateFile("w", 4, "d", blob=8),))), shelf
    )
    inside = place.folders.task[0]
    assert json.loads((inside / "state.json").read_text()) == {"n": 1}
    assert os.access(inside / "bin/run", os.X_OK) and (inside / "bin/run").read_text() == "echo"
    assert (place.folders.workspace[0] / "w").read_text() == "wide"
    assert place.left() == (DONE, None)


def test_nothing_remembered_is_an_empty_directory(place: Place) -> None:
    assert [list(path.iterdir()) for path in (*place.folders.task, *place.folders.workspace)] == [
        [], [], [], []
    ]  # fmt: skip


def test_files_values_and_lines_are_one_change(tmp_path: Path, shelf: Shelf) -> None:
    place = Place(tmp_path, (Seen(3, {"a": 1, "b": 1}), Seen(5)), shelf)
    (place.out / "deep").mkdir()
    (place.out / "deep" / "x").write_text("1")
    (place.out / "state.json").write_text('{"a": 1, "c": 2}')
    lines = {"STATE:": {"d": 4}, "GLOBAL_STATE:": {"g": 1}}
    outcome, left = place.left(StepOutcome(Verdict.SUCCEEDED, 0, states=lines))
    assert outcome.verdict is Verdict.SUCCEEDED and left is not None
    assert (left.task.base, left.task.values, left.task.removed) == (3, {"c": 2, "d": 4}, ("b",))
    assert shelf.texts(left.task.files) == {"deep/x": b"1"}
    assert left.workspace == Change(5, {"g": 1})


def test_lines_alone_need_no_directories(place: Place) -> None:
    lines = {"STATE:": {"d": 4}}
    told = StepOutcome(Verdict.SUCCEEDED, 0, states=lines)
    order = StepOrder("a", "j", "t", "s", "w", 1, ScriptWork(code="true"), place.out)
    _, left = place.states.remember(place.attempt, material(), order, told, place.said.append)
    assert left == Left(Change(None, {"d": 4}), Change(None))


def test_a_step_that_failed_leaves_nothing(place: Place) -> None:
    (place.out / "x").write_text("1")
    failed = StepOutcome(Verdict.FAILED, 1, states={"STATE:": {"a": 1}})
    assert place.left(failed) == (failed, None) and place.shelf.bytes == {}


def link(folder: Path) -> None:
    (folder / "x").symlink_to("/etc/passwd")


def link_to_folder(folder: Path) -> None:
    (folder / "x").symlink_to("/etc")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "x")


def control(folder: Path) -> None:
    (folder / "a\nb").write_text("")


def no_utf8(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff")).write_text("")


def deep(folder: Path) -> None:
    for _ in range(70):
        folder = folder / "d"
        folder.mkdir()
        (folder / "x").write_text("")


def bad_values(folder: Path) -> None:
    (folder / "state.json").write_text("[1]")


def no_values(folder: Path) -> None:
    (folder / "state.json").write_text("{")


def linked_values(folder: Path) -> None:
    (folder / "state.json").symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (link, "a symbolic link"),
        (link_to_folder, "a symbolic link"),
        (pipe, "no plain file"),
        (control, "no name for a file"),
        (no_utf8, "no name for a file"),
        (deep, "more than 64 levels"),
        (bad_values, "no JSON object"),
        (no_values, "not valid JSON"),
        (linked_values, "a symbolic link"),
    ],
)
def test_what_cannot_be_kept_fails_the_step_in_words(place: Place, made: Any, said: str) -> None:
    made(place.out)
    outcome, left = place.left()
    assert outcome.verdict is Verdict.FAILED and left is None
    assert said in str(outcome.error) and "STATE_OUT_DIR" in str(outcome.error)


def test_more_than_the_limits_fails_the_step(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(states.state, "MOST_FILE_BYTES", 10)
    (place.out / "x").write_text("x" * 11)
    outcome, _ = place.left()
    assert "more than 10,000 files or 0 MB" in str(outcome.error)


def test_a_storage_that_is_away_for_a_moment_is_waited_for(place: Place) -> None:
    (place.out / "x").write_text("1")
    place.shelf.outages = 3
    _, left = place.left()
    assert left is not None and place.shelf.texts(left.task.files) == {"x": b"1"}


def test_a_storage_that_stays_away_fails_the_step(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr(states, "PATIENCE_S", 0.0)
    (place.out / "x").write_text("1")
    place.shelf.outages = 1000
    outcome, left = place.left()
    assert outcome.verdict is Verdict.FAILED and left is None
    assert "could not be stored within 0 s: the storage is away" in str(outcome.error)


@pytest.mark.parametrize("reason", ["cancel", "lost"])
def test_an_attempt_that_must_stop_does_not_wait_for_the_storage(place: Place, reason: Any) -> None:
    (place.out / "x").write_text("1")
    place.shelf.outages = 1000
    place.attempt.stop.set(reason)
    outcome, left = place.left()
    assert outcome.verdict is Verdict.CANCELLED and left is None
