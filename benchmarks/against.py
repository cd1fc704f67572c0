"""`python -m benchmarks.against CHECKOUT [--pairs N] [--only WORD]`: this code against another
checkout of it, in turn, each with an installation of its own.

Each side is a process that imports `benchmarks` and everything else from its own checkout, and
answers a line with the name of a scenario by a line with the seconds that it took.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

WORKERS, SLOTS = 2, 4
CHAIN, WIDTH, DIAMONDS, DIAMOND_WIDTH = 50, 200, 20, 8
POST = "POST to first instruction"
SCENARIOS = (f"chain of {CHAIN}", f"fan-out of {WIDTH}", f"{DIAMONDS} diamonds", POST)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", default="", help="scenarios whose name holds this word")
    chosen = parser.parse_args()
    sides = [Peer(Path(__file__).resolve().parent.parent), Peer(chosen.checkout.resolve())]
    try:
        print(f"load {os.getloadavg()[0]:.1f}; seconds of this code / the other's, by pair")
        for scenario in SCENARIOS:
            if chosen.only in scenario:
                print(f"{scenario}: {_compared(sides, scenario, chosen.pairs)}", flush=True)
    finally:
        for side in sides:
            side.close()


def _compared(sides: list[Peer], scenario: str, pairs: int) -> str:
    """One round that does not count, then `pairs` of them, each in an order of its own."""
    orders, ratios, seconds = random.Random(0), [], []
    for number in range(-1, pairs):
        took = {side: side.take(scenario) for side in orders.sample(sides, 2)}
        if number >= 0:
            ratios.append(took[sides[0]] / took[sides[1]])
            seconds.append(took[sides[0]])
    spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
    return f"{spread}, {len(ratios)} pairs; this code {statistics.median(seconds):.4f} s"


class Peer:
    """One checkout, measured in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), "--serve"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def take(self, scenario: str) -> float:
        """Seconds of one run."""
        assert self._process.stdin is not None
        self._process.stdin.write(scenario + "\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("one side could not be measured; what it said stands above")
        return line


def serve(asked: IO[str], answers: IO[str]) -> None:
    """What a side's process does, with the modules of its checkout."""
    from benchmarks import latency
    from benchmarks.stroem_side import chain_steps, fan_steps, installation, workflow

    with installation(WORKERS, SLOTS) as (side, _):
        side.load("chain", workflow(chain_steps(CHAIN)))
        side.load("fan", workflow(fan_steps(WIDTH)))
        side.load("diamond", workflow(fan_steps(DIAMOND_WIDTH)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        token = latency.serve(side, port)
        runs: dict[str, Callable[[], Any]] = {
            SCENARIOS[0]: lambda: side.run("chain"),
            SCENARIOS[1]: lambda: side.run("fan"),
            SCENARIOS[2]: lambda: side.run("diamond", DIAMONDS),
            POST: lambda: statistics.median(latency.submit_to_start_ms(side, port, token)) / 1000,
        }
        print("ready", file=answers, flush=True)
        for line in asked:
            print(runs[line.strip()](), file=answers, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        told = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what a checkout prints is no answer
        serve(sys.stdin, told)
    else:
        main()
