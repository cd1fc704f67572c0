"""Makes a Markdown table and a plot from the measurements."""

from __future__ import annotations

import json
import os
import statistics
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.scenarios import Figures

LIMITS = {"chain": 4.0, "fan-out of 200": 6.0, "diamonds": 6.0}


def best_celery(figures: Figures) -> str | None:
    """The faster of Celery's pools in this run."""
    pools = [side for side in figures.seconds if side.startswith("celery")]
    return min(pools, key=lambda side: statistics.median(figures.seconds[side])) if pools else None


def table(all_figures: list[Figures]) -> str:
    lines = [
        (
            "| scenario | floor ms/step | sh -c true | Stroem ms/step | x floor (range) "
            "| bare Celery ms/step | x Celery (range) |"
        ),
        "|---|---|---|---|---|---|---|",
    ]
    for figures in all_figures:
        rival = best_celery(figures)
        celery = f"{figures.per_step_ms(rival):.2f} ({rival.split()[1]})" if rival else "-"
        against = spread(figures.ratios("stroem", rival)) if rival else "-"
        lines.append(
            f"| {figures.scenario.name} | {figures.per_step_ms('floor'):.2f} |"
            f" {figures.per_step_ms('sh'):.2f} | {figures.per_step_ms('stroem'):.2f} |"
            f" {spread(figures.ratios('stroem', 'floor'))} | {celery} | {against} |"
        )
    return "\n".join(lines)


def spread(ratios: list[float]) -> str:
    """The median and, in brackets, the range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})"


def write(folder: Path, name: str, all_figures: list[Figures], notes: list[str]) -> Path:
    """Write `<name>.md`, `<name>.png` and `raw/<name>.json`."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    text = [
        f"# Benchmark: {name}",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, load at the end"
            f" {load}. Medians with their"
        ),
        (
            "range; the sides of a row were run in turn. Smaller is better; 1.00 is as fast as the"
            " other side."
        ),
        "",
        *([table(all_figures), ""] if all_figures else []),
        *notes,
        "",
    ]
    path = folder / f"{name}.md"
    path.write_text("\n".join(text))
    raw = {figures.scenario.name: figures.seconds for figures in all_figures}
    (folder / "raw" / f"{name}.json").write_text(json.dumps(raw))
    if all_figures:
        _plot(folder / f"{name}.png", all_figures)
    return path


def _plot(path: Path, all_figures: list[Figures]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.9 * len(all_figures)))
    sides = [("floor", "#9aa5b1"), ("stroem", "#2563eb"), ("celery", "#d97706")]
    for row, figures in enumerate(all_figures):
        for place, (side, colour) in enumerate(sides):
            key = best_celery(figures) if side == "celery" else side
            if key is None:
                continue
            value = figures.per_step_ms(key)
            low, high = (
                f(figures.seconds[key]) / figures.scenario.steps * 1000 for f in (min, max)
            )
            y = row + (place - 1) * 0.26
            axes.barh(y, value, 0.24, color=colour, label=side if row == 0 else None)
            axes.plot([low, high], [y, y], color="#111827", linewidth=1)
            axes.text(high, y, f" {value:.2f}", va="center", fontsize=8)
    axes.set_yticks(range(len(all_figures)), [figures.scenario.name for figures in all_figures])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds a step (median, line: range)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
