"""Which files of the house one thought enters: where functions were called, not what was imported.

with Walk() as walk:
    client.post(...)
assert len(walk.files) <= 15
"""

from __future__ import annotations

import inspect
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

from tests.architecture.house import HIDDEN, ROOT

ROOMS = ("engine", "runners", "workers", "apps", "console", "standalone", "stroem_project")
LEFT_OUT = {*HIDDEN, "settings", "settings.py"}


class Walk:
    """Records between `with` and its end, in this thread and in those that start meanwhile.

    `calls` has the functions entered in each file. Bodies of modules and classes do not count; what
    an import calls does, so let the code run once before it is recorded.
    """

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = {}
        self._known: dict[CodeType, None] = {}

    @property
    def files(self) -> list[str]:
        """Paths below the root of the house, in order."""
        return sorted(self.calls)

    def forget(self) -> None:
        """Begin anew: what was entered until now does not count."""
        self.calls.clear()
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
        self._known[code] = None
        path = Path(code.co_filename)
        if not code.co_flags & inspect.CO_OPTIMIZED or not path.is_relative_to(ROOT):
            return
        place = path.relative_to(ROOT)
        if place.parts[0] in ROOMS and not LEFT_OUT.intersection(place.parts):
            self.calls.setdefault(place.as_posix(), set()).add(code.co_qualname)
