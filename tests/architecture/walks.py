"""Which files of the house one thought enters: where functions were called, not what was imported.

with Walk() as walk:
    client.post(...)
assert len(walk.files) <= 15

`files` has all of them. Each is in one of three groups:

* `rules`: the rules by which a workspace is judged (`engine/spec/checks_*`), and what was entered
  on their behalf only. A rule that finds nothing changes nothing of what follows.
* `values`: only methods and properties of frozen values were entered.
* `path`: all others. These are to be followed, one after the other.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import threading
from enum import Enum
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

from tests.architecture.house import HIDDEN, ROOT

ROOMS = ("engine", "runners", "workers", "apps", "console", "standalone", "stroem_project")
LEFT_OUT = {*HIDDEN, "settings", "settings.py"}
RULES = str(ROOT / "engine/spec/checks_")


class Walk:
    """Records between `with` and its end, in this thread and in those that start meanwhile.

    `calls` has the functions entered in each file. Bodies of modules and classes do not count; what
    an import calls does, so let the code run once before it is recorded.
    """

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = {}
        self._beside_rules: dict[str, set[str]] = {}  # those not on behalf of a rule
        self._known: dict[CodeType, None] = {}

    @property
    def files(self) -> list[str]:
        """Paths below the root of the house, in order."""
        return sorted(self.calls)

    @property
    def rules(self) -> list[str]:
        return sorted(self.calls.keys() - self._beside_rules.keys())

    @property
    def values(self) -> list[str]:
        return sorted(
            path for path, names in self._beside_rules.items() if _are_of_values(path, names)
        )

    @property
    def path(self) -> list[str]:
        return sorted(self._beside_rules.keys() - set(self.values))

    def forget(self) -> None:
        """Begin anew: what was entered until now does not count."""
        self.calls.clear()
        self._beside_rules.clear()
        self._known.clear()

    def __enter__(self) -> Self:
        self._before = (sys.getprofile(), threading.getprofile())
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(self._before[0])
        threading.setprofile(self._before[1])
        self._known.clear()

    def __str__(self) -> str:
        return "\n".join(f"{path}: {', '.join(sorted(self.calls[path]))}" for path in self.files)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or code in self._known:
            return
        path = Path(code.co_filename)
        if not code.co_flags & inspect.CO_OPTIMIZED or not path.is_relative_to(ROOT):
            self._known[code] = None
            return
        place = path.relative_to(ROOT)
        if place.parts[0] not in ROOMS or LEFT_OUT.intersection(place.parts):
            self._known[code] = None
            return
        self.calls.setdefault(place.as_posix(), set()).add(code.co_qualname)
        if not _is_for_a_rule(frame):
            self._known[code] = None
            self._beside_rules.setdefault(place.as_posix(), set()).add(code.co_qualname)


def _is_for_a_rule(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(RULES):
            return True
        frame = frame.f_back
    return False


def _are_of_values(path: str, names: set[str]) -> bool:
    """Whether these functions of a file all belong to frozen values."""
    module = sys.modules.get(path.removesuffix(".py").replace("/", "."))
    owners = {getattr(module, name.partition(".")[0], None) for name in names}
    return all(isinstance(owner, type) and _is_value(owner) for owner in owners)


def _is_value(owner: type) -> bool:
    if dataclasses.is_dataclass(owner):
        return bool(owner.__dataclass_params__.frozen)  # type: ignore[attr-defined]
    return issubclass(owner, Enum)
