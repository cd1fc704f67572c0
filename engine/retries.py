"""How long until another attempt."""

from __future__ import annotations

from engine.spec.model import Retry

MAX_DOUBLINGS = 6


def delay_s(retry: Retry, runs: int, chance: float) -> float:
    """Seconds to wait after run number `runs` (from 1) failed. `chance` in [0, 1) spreads it by +-25 % with jitter.

    Source: spec 3.6; exponential back-off doubles with each run and stops growing after six doublings.
    """
    base = retry.delay_s
    if retry.backoff == "exponential":
        base *= 2 ** min(runs - 1, MAX_DOUBLINGS)
    return base * (0.75 + 0.5 * chance) if retry.jitter else base
