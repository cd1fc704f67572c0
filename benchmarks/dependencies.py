"""`python -m benchmarks.dependencies [--packages pandas] [--pairs N]`: what installed packages cost
a script.

The first run installs; then runs with and without packages alternate. Measures the time from the
order to the script's first instruction.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from engine.orders import Line, ScriptWork, StepOrder, Verdict
from runners.host.local import LocalConfig, LocalRunner

CODE = "import time; print(f'OUTPUT: {time.time()}')"
LIMIT = 1.2


class _Never:
    """A stop signal that is never set."""

    reason: str | None = None

    def wait(self, timeout_s: float) -> bool:
        time.sleep(timeout_s)
        return False

    def on_set(self, callback: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dependencies")
    parser.add_argument(
        "--packages", default="pandas", help="comma-separated, from the index of uv or pip"
    )
    parser.add_argument("--interpreter", help="interpreter for both sides")
    parser.add_argument("--pairs", type=int, default=30, help="measurements (default: 30)")
    chosen = parser.parse_args()
    packages = tuple(chosen.packages.split(","))
    with tempfile.TemporaryDirectory(prefix="stroem-bench-") as folder:
        runner = LocalRunner(LocalConfig(Path(folder) / "cache"))
        begin = partial(start, runner, Path(folder), chosen.interpreter)
        installing_s = begin(packages)
        begin(())  # warm up the caches
        pairs = [(begin(()), begin(packages)) for _ in range(chosen.pairs)]
    without, with_packages = (
        statistics.median(column) * 1000 for column in zip(*pairs, strict=True)
    )
    ratios = sorted(second / first for first, second in pairs)
    ratio = with_packages / without
    print(f"first run, with installation: {installing_s:.1f} s; load {os.getloadavg()[0]:.1f}")
    print(
        f"to the first instruction, medians of {chosen.pairs}: {without:.1f} ms without,"
        f" {with_packages:.1f} ms with"
    )
    print(
        f"ratio of medians: {ratio:.2f} (limit {LIMIT}); of pairs: {ratios[0]:.2f} to"
        f" {ratios[-1]:.2f}"
    )
    sys.exit(ratio > LIMIT)


def start(
    runner: LocalRunner, folder: Path, interpreter: str | None, packages: tuple[str, ...]
) -> float:
    """Seconds from the order to the script's first instruction."""
    attempt = f"bench-{time.monotonic_ns()}"
    scratch = folder / attempt
    scratch.mkdir(mode=0o700)
    order = StepOrder(
        attempt=attempt,
        job_id=attempt,
        task_name="bench",
        step_name="bench",
        workspace="bench",
        number=1,
        work=ScriptWork(
            language="python", code=CODE, dependencies=packages, interpreter=interpreter
        ),
        scratch_dir=scratch,
    )
    began = time.time()
    outcome = runner.run(order, _drop, _Never())
    if outcome.verdict is not Verdict.SUCCEEDED:
        raise SystemExit(f"the script failed: {outcome.error}")
    return float(outcome.output) - began


def _drop(line: Line) -> None:
    pass


if __name__ == "__main__":
    main()
