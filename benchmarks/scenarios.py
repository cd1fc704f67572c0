"""What is measured: each scenario has up to three sides, which are run in turn, repeatedly."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from benchmarks import celery_side, floor
from benchmarks.stroem_side import Side, chain_steps, fan_steps, specification, workflow

CHAIN = 50
DIAMONDS, DIAMOND_WIDTH = 20, 8
RIVALS_WIDTH = 2000  # wider ones only measure growth
SMALL_WIDTH, SMALL_RUNS = 200, 10  # baseline for growth, run in turn with the large one
LONG_PAIRS = 5


@dataclass(frozen=True)
class Scenario:
    """One comparison. Every side returns seconds for `steps` steps."""

    name: str
    steps: int
    pairs: int
    sides: dict[str, Callable[[], float]]


@dataclass
class Figures:
    """Seconds by side, in the order of measurement."""

    scenario: Scenario
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def per_step_ms(self, side: str) -> float:
        return statistics.median(self.seconds[side]) / self.scenario.steps * 1000

    def ratios(self, side: str, to: str) -> list[float]:
        """For each round, `side` in multiples of `to`."""
        return [a / b for a, b in zip(self.seconds[side], self.seconds[to], strict=True)]


def scenarios(side: Side, *, sizes: tuple[int, ...], pairs: int) -> list[Scenario]:
    """The chains, the fan-outs and the diamonds."""
    return [
        *_chains(side, pairs),
        *(_fan_out(side, width, pairs) for width in sizes),
        _diamonds(side, pairs),
    ]


def _chains(side: Side, pairs: int) -> list[Scenario]:
    side.load("chain", workflow(chain_steps(CHAIN)))
    side.load("torc", specification(chain_steps(CHAIN)))
    shells = {"floor": lambda: floor.serial(CHAIN), "sh": lambda: floor.serial(CHAIN, "/bin/sh")}
    rivals = _by_pool(lambda pool: celery_side.chain(pool, CHAIN))
    return [
        Scenario(
            f"chain of {CHAIN}",
            CHAIN,
            pairs,
            {**shells, "stroem": lambda: side.run("chain"), **rivals},
        ),
        Scenario(
            f"chain of {CHAIN} from a Torc file",
            CHAIN,
            pairs,
            {**shells, "stroem": lambda: side.run("torc")},
        ),
    ]


def _fan_out(side: Side, width: int, pairs: int) -> Scenario:
    side.load(f"fan{width}", workflow(fan_steps(width)))
    rivals = (
        _by_pool(lambda pool: celery_side.fan_out(pool, width)) if width <= RIVALS_WIDTH else {}
    )
    ours = _shells(width + 2) | {"stroem": lambda: side.run(f"fan{width}")}
    if width > RIVALS_WIDTH:
        ours["small"] = lambda: statistics.median(
            side.run(f"fan{SMALL_WIDTH}") for _ in range(SMALL_RUNS)
        )
    return Scenario(
        f"fan-out of {width}", width + 2, pairs if width <= 200 else LONG_PAIRS, ours | rivals
    )


def _diamonds(side: Side, pairs: int) -> Scenario:
    side.load("diamond", workflow(fan_steps(DIAMOND_WIDTH)))
    steps = DIAMONDS * (DIAMOND_WIDTH + 2)
    rivals = _by_pool(lambda pool: celery_side.diamonds(pool, DIAMONDS, DIAMOND_WIDTH))
    ours = _shells(steps) | {"stroem": lambda: side.run("diamond", DIAMONDS)}
    return Scenario(f"{DIAMONDS} diamonds of {DIAMOND_WIDTH + 2}", steps, pairs, ours | rivals)


def _shells(steps: int) -> dict[str, Callable[[], float]]:
    return {"floor": lambda: floor.parallel(steps), "sh": lambda: floor.parallel(steps, "/bin/sh")}


def _by_pool(run: Callable[[str], float]) -> dict[str, Callable[[], float]]:
    """Bare Celery in each of its pools; the better one counts."""
    return {f"celery {pool}": partial(run, pool) for pool in celery_side.POOLS}


def growth(figures: Figures) -> list[float]:
    """For each round, a step's time in multiples of that in the small fan-out of the round."""
    scale = (SMALL_WIDTH + 2) / figures.scenario.steps
    return [ratio * scale for ratio in figures.ratios("stroem", "small")]


def measure(scenario: Scenario, say: Callable[[str], None]) -> Figures:
    """Run all sides in turn, `pairs` times, after one warm-up round.

    The order varies by round: after a side that leaves a processor idle, the next starts slower.
    """
    figures = Figures(scenario, {side: [] for side in scenario.sides})
    orders = random.Random(0)
    for number in range(-1, scenario.pairs):
        for name in orders.sample(list(scenario.sides), len(scenario.sides)):
            seconds = scenario.sides[name]()
            if number >= 0:
                figures.seconds[name].append(seconds)
        say(f"  {scenario.name}: round {number + 1} of {scenario.pairs}")
    return figures
