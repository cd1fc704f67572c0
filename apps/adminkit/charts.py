"""Small bar charts as SVG without scripts, with a table for screen readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, FLOOR, LEFT = 640.0, 180.0, 150.0, 40.0
GAP = 3.0


@dataclass(frozen=True, slots=True)
class Series:
    """One series of values, one per label."""

    name: str
    tone: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle, in the chart's own coordinates."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars, one stack per label."""

    title: str
    labels: Sequence[str]
    series: Sequence[Series]
    unit: str = ""
    nothing: str = "No job has ended in the last 24 hours."
    head: str = "Hour"  # of the labels, in the table
    least: float = 1.0  # the smallest top of the scale; below 1, parts are shown

    @property
    def top(self) -> float:
        """The top of the scale: a round number that no stack exceeds."""
        most = max(
            (sum(values) for values in zip(*(one.values for one in self.series), strict=True)),
            default=0,
        )
        size = self.least
        while size < most:
            size *= 2 if f"{size:e}"[0] in "15" else 2.5
        return round(size, 6)

    @property
    def is_empty(self) -> bool:
        return not any(any(one.values) for one in self.series)

    @property
    def lines(self) -> list[tuple[float, str]]:
        """(y, label) of the grid lines."""
        # no half jobs
        parts = (
            (0.5, 1.0)
            if self.unit or self.least < 1 or self.top % 2 == 0
            else (0.4, 0.8)
            if self.top > 1
            else (1.0,)
        )
        return [(FLOOR - FLOOR * part * 0.9, f"{self.top * part:g}{self.unit}") for part in parts]

    @property
    def marks(self) -> list[tuple[float, str]]:
        """(x, label) under every fourth stack, except at the edges."""
        width = self._width
        return [
            (LEFT + width * index + width / 2, label)
            for index, label in enumerate(self.labels)
            if index % 4 == 1 and index < len(self.labels) - 1
        ]

    @property
    def _width(self) -> float:
        return (WIDTH - LEFT) / max(1, len(self.labels))

    @property
    def bars(self) -> list[Bar]:
        found = []
        scale = FLOOR * 0.9 / self.top
        for index in range(len(self.labels)):
            y = FLOOR
            for one in self.series:
                height = one.values[index] * scale
                if height:
                    y -= height
                    x = LEFT + self._width * index + GAP / 2
                    found.append(
                        Bar(
                            round(x, 1),
                            round(y, 1),
                            round(self._width - GAP, 1),
                            round(height, 1),
                            one.tone,
                        )
                    )
        return found

    @property
    def rows(self) -> list[tuple[str, list[float]]]:
        """Rows of the table: a label and its values, without empty stacks."""
        found = [
            (label, [one.values[index] for one in self.series])
            for index, label in enumerate(self.labels)
        ]
        return [(label, values) for label, values in found if any(values)]
