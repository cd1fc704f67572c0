"""What is measured: each scenario names its three sides, which are run in turn, over and over."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import celery_side, floor
from benchmarks.stroem_side import Side, chain_steps, fan_steps, specification, workflow

CHAIN = 50
DIAMONDS, DIAMOND_WIDTH = 20, 8


@dataclass(frozen=True)
class Scenario:
    """One comparison. Every side returns seconds for `steps` steps."""

    name: str
    steps: int
    pairs: int
    sides: dict[str, Callable[[], float]]


@dataclass
class Figures:
    """Seconds by side, in the order of measuring."""

    scenario: Scenario
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def per_step_ms(self, side: str) -> float:
        return statistics.median(self.seconds[side]) / self.scenario.steps * 1000

    def ratios(self, side: str, to: str) -> list[float]:
        """Of each round, `side` in multiples of `to`."""
        return [a / b for a, b in zip(self.seconds[side], self.seconds[to], strict=True)]


def scenarios(side: Side, *, sizes: tuple[int, ...], pairs: int) -> list[Scenario]:
    """The chain, the fan-outs and the diamonds. The last size is also the one that growth is judged by."""
    side.load("chain", workflow(chain_steps(CHAIN)))
    side.load("diamond", workflow(fan_steps(DIAMOND_WIDTH)))
    found = [
        Scenario(
            f"chain of {CHAIN}",
            CHAIN,
            pairs,
            {
                "floor": lambda: floor.serial(CHAIN),
                "sh": lambda: floor.serial(CHAIN, "/bin/sh"),
                "stroem": lambda: side.run("chain"),
                **{f"celery {pool}": lambda pool=pool: celery_side.chain(pool, CHAIN) for pool in celery_side.POOLS},
            },
        )
    ]
    side.load("torc", specification(chain_steps(CHAIN)))
    chain = found[0]
    torc = {name: chain.sides[name] for name in ("floor", "sh")} | {"stroem": lambda: side.run("torc")}
    found.append(Scenario(f"chain of {CHAIN} from a Torc file", CHAIN, pairs, torc))
    for width in sizes:
        side.load(f"fan{width}", workflow(fan_steps(width)))
        found.append(
            Scenario(
                f"fan-out of {width}",
                width + 2,
                pairs if width <= 200 else 5,
                {
                    "floor": lambda width=width: floor.parallel(width + 2),
                    "sh": lambda width=width: floor.parallel(width + 2, "/bin/sh"),
                    "stroem": lambda width=width: side.run(f"fan{width}"),
                    **{
                        f"celery {pool}": lambda pool=pool, width=width: celery_side.fan_out(pool, width)
                        for pool in celery_side.POOLS
                        if width <= 2000
                    },
                },
            )
        )
    steps = DIAMONDS * (DIAMOND_WIDTH + 2)
    found.append(
        Scenario(
            f"{DIAMONDS} diamonds of {DIAMOND_WIDTH + 2}",
            steps,
            pairs,
            {
                "floor": lambda: floor.parallel(steps),
                "sh": lambda: floor.parallel(steps, "/bin/sh"),
                "stroem": lambda: side.run("diamond", DIAMONDS),
                **{
                    f"celery {pool}": lambda pool=pool: celery_side.diamonds(pool, DIAMONDS, DIAMOND_WIDTH)
                    for pool in celery_side.POOLS
                },
            },
        )
    )
    return found


def measure(scenario: Scenario, say: Callable[[str], None]) -> Figures:
    """Run all sides in turn, `pairs` times, after one round that does not count."""
    figures = Figures(scenario, {side: [] for side in scenario.sides})
    for number in range(-1, scenario.pairs):
        for name, run in scenario.sides.items():
            seconds = run()
            if number >= 0:
                figures.seconds[name].append(seconds)
        say(f"  {scenario.name}: round {number + 1} of {scenario.pairs}")
    return figures
