"""What a task and its workspace remember, as directories of one attempt: filled before the step,
read after it.

A step may leave anything in its directories: links and pipes are neither followed nor waited for.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from apps.jobs.ledger import Material
from engine import state
from engine.archives import BadArchive, safe_path
from engine.errors import AuthorError, PlatformError, StroemError
from engine.orders import StateFolders, StepOrder, StepOutcome, Verdict
from engine.output import GLOBAL_STATE, STATE, parse
from engine.state import Change, Left, Seen, StateFile
from runners import anchored
from workers.attempts import Attempt
from workers.door import OUTAGES, StateLedger
from workers.trees import Scratch

ROOT = "state"  # in the attempt's scratch directory
_OUT = ("STATE_OUT_DIR", "GLOBAL_STATE_OUT_DIR")
NAMES = ("task", "task-out", "workspace", "workspace-out")
SHORTEST_S, LONGEST_S = 0.05, 2.0
SAID_AFTER_S, PATIENCE_S = 5.0, 600.0
_PIECE = 1 << 20
Told = Callable[[str], None]
T = TypeVar("T")


class _Stopped(Exception):
    """The attempt must end before its state could be stored."""


class States:
    """Fills and reads the directories of state; any number of threads at a time."""

    def __init__(self, ledger: StateLedger) -> None:
        self._ledger = ledger

    def open(self, scratch: Scratch, seen: tuple[Seen, Seen]) -> StateFolders:
        """Directories below the scratch directory. Raises one of OUTAGES."""
        root = scratch.path / ROOT
        with anchored.folder(scratch.path) as fd:
            inner = anchored.make_folder(ROOT, fd, 0o755)
            try:
                for name, one in zip(NAMES, (seen[0], None, seen[1], None), strict=True):
                    self._fill(name, one, inner, scratch.owner)
            finally:
                anchored.give(inner, scratch.owner)
        paths = [root / name for name in NAMES]
        return StateFolders((paths[0], paths[1]), (paths[2], paths[3]))

    def remember(
        self,
        attempt: Attempt,
        material: Material,
        order: StepOrder,
        outcome: StepOutcome,
        say: Told,
    ) -> tuple[StepOutcome, Left | None]:
        """What a step leaves that succeeded; it has failed if that cannot be kept."""
        if outcome.verdict is not Verdict.SUCCEEDED:
            return outcome, None
        try:
            left = self._collect(attempt, order.state, material.state, outcome, say)
        except _Stopped:
            return replace(outcome, verdict=Verdict.CANCELLED, error="Job cancelled"), None
        except StroemError as error:
            return replace(outcome, verdict=Verdict.FAILED, error=str(error)), None
        except OSError as error:
            text = f"The worker could not read the step's state: {error.strerror}"
            return replace(outcome, verdict=Verdict.FAILED, error=text), None
        return outcome, None if left.is_empty else left

    def _collect(
        self,
        attempt: Attempt,
        folders: StateFolders | None,
        seen: tuple[Seen, Seen] | None,
        outcome: StepOutcome,
        say: Told,
    ) -> Left:
        lines, bases = outcome.states or {}, outcome.bases or {}
        changes = []
        for at, prefix in enumerate((STATE, GLOBAL_STATE)):
            said = dict(lines.get(prefix, {}))
            whole, files = None, None
            if folders is not None:
                folder = (folders.task, folders.workspace)[at][1]
                whole, files = self._read(attempt, folder, _OUT[at], say)
            before = seen[at] if seen is not None else None
            values, removed = state.difference(before.values if before else {}, whole, said)
            base, own = before.version if before else None, bases.get(prefix, {})
            changes.append(Change(base, values, removed, files, own))
        return Left(*changes)

    def _fill(
        self, name: str, seen: Seen | None, within: int, owner: anchored.Owner | None
    ) -> None:
        fd = anchored.make_folder(name, within, 0o755)
        try:
            if seen is not None and seen.version:
                text = json.dumps(seen.values, ensure_ascii=False) + "\n"
                anchored.write(state.VALUES_FILE, text.encode("utf-8", "replace"), fd, owner)
                for file in seen.files:
                    self._write(file, fd, owner)
        finally:
            anchored.give(fd, owner)

    def _write(self, file: StateFile, within: int, owner: anchored.Owner | None) -> None:
        *parents, name = file.path.split("/")
        fd = os.dup(within)
        try:
            for parent in parents:
                with suppress(FileExistsError):
                    anchored.give(anchored.make_folder(parent, fd, 0o755), owner)
                inner = os.open(parent, anchored.FOLDER, dir_fd=fd)
                os.close(fd)
                fd = inner
            out = os.open(name, anchored.FRESH, 0o600, dir_fd=fd)
            try:
                with self._ledger.open_file(file) as data:
                    while piece := data.read(_PIECE):
                        anchored.write_all(out, piece)
                if owner is not None:
                    os.fchown(out, *owner)
                os.fchmod(out, 0o755 if file.is_program else 0o644)
            finally:
                os.close(out)
        finally:
            os.close(fd)

    def _read(
        self, attempt: Attempt, folder: Path, variable: str, say: Told
    ) -> tuple[dict[str, Any] | None, tuple[StateFile, ...] | None]:
        """The values in `state.json`, and the other files; None for what is not there."""
        whole, size = None, 0
        files: list[StateFile] = []
        with anchored.folder(folder) as root:
            for path, name, within in _walk(root, variable):
                fd = _open_plain(path, name, within, variable)
                with open(fd, "rb", buffering=0) as data:
                    found = os.fstat(fd)
                    size += found.st_size
                    if len(files) >= state.MOST_FILES or size > state.MOST_FILE_BYTES:
                        raise AuthorError(
                            f"{variable} holds more than {state.MOST_FILES:,} files or"
                            f" {state.MOST_FILE_BYTES >> 20} MB; keep large data elsewhere"
                        )
                    if path == state.VALUES_FILE:
                        whole = _values(data.read(state.MOST_VALUE_BYTES + 1), variable)
                        continue
                    files.append(self._store(attempt, path, data, found, say))
        return whole, tuple(files) or None

    def _store(
        self, attempt: Attempt, path: str, data: Any, found: os.stat_result, say: Told
    ) -> StateFile:
        """Store one file, as soon as the storage and the database answer."""
        began, pause_s, is_said = time.monotonic(), SHORTEST_S, False
        while True:
            try:
                data.seek(0)
                is_program = bool(found.st_mode & 0o100)
                return self._ledger.store_file(path, data, is_program=is_program)
            except OUTAGES as error:
                waited_s = time.monotonic() - began
                if waited_s > PATIENCE_S:
                    text = f"The state could not be stored within {PATIENCE_S:.0f} s: {error}"
                    raise PlatformError(text) from error
                if not is_said and waited_s > SAID_AFTER_S:
                    is_said = True
                    say(f"The state waits to be stored: {error}")
            finally:
                self._ledger.released()
            if attempt.stop.wait(pause_s):
                raise _Stopped
            pause_s = min(pause_s * 2, LONGEST_S)


def _walk(root: int, variable: str) -> Iterator[tuple[str, str, int]]:
    """(path, name, descriptor of its directory) of everything that is no directory, in order."""
    waiting = [("", os.dup(root))]
    try:
        while waiting:
            above, fd = waiting.pop()
            try:
                with os.scandir(fd) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
                for entry in found:
                    path = _named(f"{above}{entry.name}", variable)
                    if not entry.is_dir(follow_symlinks=False):
                        yield path, entry.name, fd
                        continue
                    if path.count("/") >= anchored.DEEPEST:
                        raise AuthorError(f"{variable} has more than {anchored.DEEPEST} levels")
                    inner = os.open(entry.name, anchored.FOLDER, dir_fd=fd)
                    waiting.append((f"{path}/", inner))
            finally:
                os.close(fd)
    finally:
        for _, fd in waiting:
            os.close(fd)


def _named(path: str, variable: str) -> str:
    try:
        return safe_path(path)
    except BadArchive as wrong:
        raise AuthorError(f"{variable} cannot be kept: {wrong}") from None


def _open_plain(path: str, name: str, within: int, variable: str) -> int:
    mode = os.stat(name, dir_fd=within, follow_symlinks=False).st_mode
    if stat.S_ISREG(mode):
        fd = os.open(name, anchored.FILE, dir_fd=within)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return fd
        os.close(fd)
    kind = "a symbolic link" if stat.S_ISLNK(mode) else "no plain file"
    raise AuthorError(
        f"{variable} holds {path!r}, which is {kind}: state keeps plain files (`cp -L` copies what"
        " a link leads to)"
    )


def _values(text: bytes, variable: str) -> dict[str, Any]:
    name = f"{state.VALUES_FILE} in {variable}"
    if len(text) > state.MOST_VALUE_BYTES:
        raise AuthorError(f"{name} is larger than {state.MOST_VALUE_BYTES:,} bytes")
    try:
        value = parse(text.decode("utf-8"))
    except ValueError as wrong:
        raise AuthorError(f"{name} cannot be kept, because {wrong}") from None
    if not isinstance(value, dict):
        raise AuthorError(f"{name} is no JSON object")
    return value
