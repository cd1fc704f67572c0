"""A worker with files to store: it waits, it stops, and it says why it could not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest
from django.db import OperationalError

from apps.artifacts.blobs import Stored
from apps.artifacts.errors import StorageAway
from apps.artifacts.values import Left, Limits, Taken
from engine.orders import ScriptWork, Shelves, StepOutcome, Verdict
from engine.spec.model import Artifacts as Wanted
from tests.runners.contract import build_order
from tests.workers.fakes import claim
from workers import artifacts
from workers.artifacts import Leaving, Shelf
from workers.attempts import Attempt

DONE = StepOutcome(Verdict.SUCCEEDED, 0, output={"n": 1}, has_output=True)
FAILED = StepOutcome(Verdict.FAILED, 3, "Exit code: 3")


class Storage:
    """A ledger in memory; `troubles` are raised by the next calls of `put`."""

    def __init__(self) -> None:
        self.troubles: list[Exception] = []
        self.before_put: Callable[[], None] = lambda: None
        self.data: dict[int, bytes] = {}
        self.left: list[Left] = []
        self.ends: list[int] = []
        self.given_up = 0
        self.is_ours = True
        self.known = Limits(1 << 20, 1 << 22, None, 100, 600.0)

    def limits(self) -> Limits:
        return self.known

    def refuse_beyond(self, claim: Any, sizes: Sequence[int]) -> None:
        pass

    def begin(self, stream: BinaryIO) -> Any:
        return Upload(self, stream)

    def leave(
        self, claim: Any, files: Sequence[Left], retain_s: float | None, *, has_failed: bool = False
    ) -> bool:
        self.left = list(files) if self.is_ours else []
        return self.is_ours

    def tell_end(self, claim: Any, exit_code: int) -> None:
        if self.troubles:
            raise self.troubles.pop(0)
        self.ends.append(exit_code)

    def taken(self, claim: Any, steps: Sequence[str]) -> list[Taken]:
        return []

    def open_taken(self, file: Taken) -> IO[bytes]:
        raise AssertionError

    def released(self) -> None:
        pass

    @property
    def files(self) -> dict[str, bytes]:
        return {one.name: self.data[one.blob_id] for one in self.left}


class Upload:
    """Of a file, by a storage in memory."""

    def __init__(self, storage: Storage, stream: BinaryIO) -> None:
        self.storage, self.stream = storage, stream

    def go_on(self) -> Stored:
        found = self.storage
        found.before_put()
        if found.troubles:
            raise found.troubles.pop(0)
        found.data[len(found.data)] = self.stream.read()
        return Stored(len(found.data) - 1, "", len(found.data[len(found.data) - 1]))

    def give_up(self) -> None:
        self.storage.given_up += 1


class Bench:
    def __init__(self, folder: Path) -> None:
        self.ledger, self.attempt = Storage(), Attempt(claim(), 0.0)
        self.said: list[str] = []
        left, self.work = folder / "left", folder / "work"
        left.mkdir()
        self.work.mkdir()
        self.order = replace(
            build_order(folder, work=ScriptWork(code="true", workspace_dir=self.work)),
            shelves=Shelves(left),
        )
        self.left = left

    def keep(
        self, outcome: StepOutcome = DONE, owner: tuple[int, int] | None = None, **wanted: Any
    ) -> StepOutcome:
        leaving = Leaving(
            self.attempt, self.order, Wanted(**wanted), owner, self.said.append, is_local=True
        )
        return Shelf(self.ledger).keep(leaving, outcome)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(artifacts, "SHORTEST_S", 0.01)
    return Bench(tmp_path)


def test_a_step_without_files_touches_no_storage(bench: Bench) -> None:
    bench.ledger.limits = lambda: pytest.fail("asked")  # type: ignore[method-assign]
    assert bench.keep() == DONE


def test_outages_of_storage_and_database_are_waited_for(bench: Bench) -> None:
    (bench.left / "a").write_text("1")
    bench.ledger.troubles = [StorageAway("the disk is gone"), OperationalError("no database")] * 3
    assert bench.keep() == DONE
    assert bench.ledger.files == {"a": b"1"}
    assert bench.said[0] == "Waiting for the storage of artifacts: the disk is gone"
    assert bench.said[-1] == "Stored 1 artifact (1 bytes)"


def test_a_storage_that_stays_away_fails_the_step_with_one_sentence(bench: Bench) -> None:
    (bench.left / "a").write_text("1")
    bench.ledger.known = replace(bench.ledger.known, patience_s=0.0)
    bench.ledger.troubles = [StorageAway("the disk is gone")] * 1000
    outcome = bench.keep()
    assert outcome.verdict is Verdict.FAILED and outcome.may_retry and not outcome.has_output
    assert outcome.error == "The artifacts could not be stored: the disk is gone"
    failed = bench.keep(FAILED, on_failure=True)
    assert failed.exit_code == 3 and failed.error == f"Exit code: 3\n{outcome.error}"
    assert bench.ledger.given_up == 2


def test_the_end_of_an_image_is_told_until_it_is_known_or_the_attempt_has_to_end(
    bench: Bench,
) -> None:
    bench.ledger.troubles = [OperationalError("no database")] * 3
    Shelf(bench.ledger).tell_end(bench.attempt, 3)
    assert bench.ledger.ends == [3]
    bench.ledger.troubles = [OperationalError("no database")] * 3
    bench.attempt.stop.set("cancel")
    Shelf(bench.ledger).tell_end(bench.attempt, 0)
    assert bench.ledger.ends == [3]


@pytest.mark.parametrize(
    ("reason", "verdict", "handed_back"),
    [
        ("cancel", Verdict.CANCELLED, False),
        ("lost", Verdict.LOST, False),
        ("drain", Verdict.LOST, True),
    ],
)
def test_a_stop_meanwhile_ends_the_attempt(
    bench: Bench, reason: Any, verdict: Verdict, handed_back: bool
) -> None:
    (bench.left / "a").write_text("1")
    bench.ledger.troubles = [StorageAway("away")] * 1000
    threading.Timer(0.05, bench.attempt.stop.set, (reason,)).start()
    outcome = bench.keep()
    assert (outcome.verdict, outcome.is_handed_back) == (verdict, handed_back)
    assert bench.ledger.left == []


def test_an_attempt_that_was_lost_does_not_succeed(bench: Bench) -> None:
    (bench.left / "a").write_text("1")
    bench.ledger.is_ours = False
    assert bench.keep().verdict is Verdict.LOST


def test_a_bug_of_ours_is_a_failure_and_not_a_step_that_hangs(bench: Bench) -> None:
    (bench.left / "a").write_text("1")
    bench.ledger.troubles = [ZeroDivisionError("secret")]
    outcome = bench.keep()
    assert outcome.verdict is Verdict.FAILED and "secret" not in str(outcome.error)


def test_a_file_that_becomes_a_link_is_not_followed(bench: Bench, tmp_path: Path) -> None:
    (bench.left / "d").mkdir()
    (bench.left / "d" / "a").write_text("1")
    (bench.left / "z").write_text("2")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "a").write_text("secret")

    def swap() -> None:
        bench.ledger.before_put = lambda: None
        (bench.left / "z").unlink()
        (bench.left / "z").symlink_to(secret / "a")

    bench.ledger.before_put = swap
    outcome = bench.keep()
    assert outcome.verdict is Verdict.FAILED and bench.ledger.left == []
    assert b"secret" not in bench.ledger.data.values()


@pytest.mark.root
def test_a_hard_link_to_a_foreign_file_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("secret")
    os.link(tmp_path / "shadow", bench.left / "mine")
    (bench.left / "own").write_text("1")
    os.chown(bench.left, 12345, 12345)
    os.chown(bench.left / "own", 12345, 12345)
    outcome = bench.keep(owner=(12345, 12345))
    assert outcome.verdict is Verdict.FAILED
    assert "'mine' belongs to another user" in str(outcome.error)
    assert b"secret" not in bench.ledger.data.values()


def test_paths_stay_below_the_working_directory(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").write_text("secret")
    (bench.work / "link").symlink_to(tmp_path / "outside")
    (bench.work / "in").mkdir()
    (bench.work / "in" / "x").write_text("1")
    (bench.work / "in" / "y").symlink_to(tmp_path / "outside" / "x")
    assert bench.keep(paths=("link/*", "in/*", "**/x")) == DONE
    assert bench.ledger.files == {"in/x": b"1"}
