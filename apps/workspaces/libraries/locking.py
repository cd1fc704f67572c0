"""Makes the lock file of a folder. Needs no Django."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from apps.workspaces.errors import SourceError
from apps.workspaces.libraries import lock
from apps.workspaces.libraries.attaching import libraries_of, lock_path, locked_of
from apps.workspaces.libraries.fetching import fetch, pin_of
from apps.workspaces.libraries.lock import Pin
from apps.workspaces.sources.tree import Limits, read_folder


@dataclass(frozen=True, slots=True)
class Locked:
    file: Path
    text: str
    pins: Mapping[str, Pin]
    moved: frozenset[str]  # new ones too


def lock_folder(folder: Path, names: Collection[str], *, move_all: bool) -> Locked:
    """The pins as the lock file has them, but for the libraries in `names`, all with `move_all`,
    and those that it lacks or that come from elsewhere now. Raises SourceError."""
    tree = read_folder(folder)
    try:
        old = locked_of(tree) or {}
    except SourceError:
        if not move_all:
            raise
        old = {}
    pins: dict[str, Pin] = {}
    moved: set[str] = set()
    for name, library in libraries_of(tree).items():
        known = old.get(name)
        if known is not None and known.is_for(library) and name not in names and not move_all:
            pins[name] = known
            continue
        try:
            pins[name] = pin_of(library, fetch(library, None, folder, Limits(), is_local=True))
        except SourceError as error:
            raise SourceError(f"Library '{name}': {error}") from None
        moved.add(name)
    return Locked(folder / lock_path(tree), lock.written(pins), pins, frozenset(moved))
