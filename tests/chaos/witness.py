"""A witness outside the system: each step writes its own start and end to a file, under a lock that
nobody shares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The step takes the lock of its name without waiting: a second attempt beside the first writes
# "overlap".
SCRIPT = """\
exec 9>>"{folder}/$STROEM_STEP_NAME.lock"
flock -n 9 || echo "overlap $STROEM_STEP_NAME $$ $EPOCHREALTIME" >> "{folder}/witness"
echo "start $STROEM_STEP_NAME $$ $EPOCHREALTIME" >> "{folder}/witness"
sleep {seconds} 9>&-
echo "end $STROEM_STEP_NAME $$ $EPOCHREALTIME" >> "{folder}/witness"
"""


@dataclass(frozen=True)
class Run:
    """One process of a step, as it wrote itself down."""

    step: str
    pid: int
    start: float
    end: float | None


class Witness:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "witness").touch()

    def script(self, seconds: float) -> str:
        return SCRIPT.format(folder=self.folder, seconds=seconds)

    def _lines(self) -> Iterator[tuple[str, str, int, float]]:
        for line in (self.folder / "witness").read_text().splitlines():
            what, step, pid, at = line.split()
            yield what, step, int(pid), float(at.replace(",", "."))

    def overlaps(self) -> list[str]:
        return [step for what, step, _, _ in self._lines() if what == "overlap"]

    def starts(self) -> int:
        return sum(what == "start" for what, _, _, _ in self._lines())

    def ends(self) -> int:
        return sum(what == "end" for what, _, _, _ in self._lines())

    def runs(self) -> dict[str, list[Run]]:
        """By step, in the order of their starts."""
        ends = {(step, pid): at for what, step, pid, at in self._lines() if what == "end"}
        found: dict[str, list[Run]] = defaultdict(list)
        for what, step, pid, at in self._lines():
            if what == "start":
                found[step].append(Run(step, pid, at, ends.get((step, pid))))
        return found
