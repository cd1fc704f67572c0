"""The lock file of a workspace: the commit of each library, and the hash of its files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from apps.workspaces.errors import SourceError
from engine.spec.model import Library

NAME = "libraries.lock"
_HASH = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Pin:
    """`address` and `ref` as the files named them; `commit` is empty for a folder."""

    address: str
    ref: str
    commit: str
    tree: str

    def is_for(self, library: Library) -> bool:
        return (self.address, self.ref) == (library.address, library.ref)


def read(content: bytes, file: str) -> dict[str, Pin]:
    """By library. Raises SourceError."""
    try:
        given = json.loads(content)
        return {str(name): _pin(values) for name, values in given.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise SourceError(
            f"{file} is not a lock file of libraries; write it anew with `lock --all`"
        ) from None


def _pin(values: Mapping[str, str]) -> Pin:
    pin = Pin(**values)
    if not (_COMMIT.fullmatch(pin.commit) and _HASH.fullmatch(pin.tree)):
        raise ValueError
    if not (isinstance(pin.address, str) and isinstance(pin.ref, str)):
        raise TypeError
    return pin


def written(pins: Mapping[str, Pin]) -> str:
    """The text of the file."""
    return json.dumps({name: asdict(pins[name]) for name in sorted(pins)}, indent=2) + "\n"
