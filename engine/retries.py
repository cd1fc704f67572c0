"""How long until another attempt."""

from __future__ import annotations

from engine.spec.model import ExitRule, Retry

MAX_DOUBLINGS = 6


def delay_s(retry: Retry, runs: int, chance: float) -> float:
    """Seconds to wait after run number `runs` (from 1) failed. `chance` in [0, 1) spreads it by
    +-25 % with jitter.

    Source: spec 3.6; exponential back-off doubles with each run and stops growing after six
    doublings.
    """
    base = retry.delay_s
    if retry.backoff == "exponential":
        base *= 2 ** min(runs - 1, MAX_DOUBLINGS)
    return base * (0.75 + 0.5 * chance) if retry.jitter else base


def rule_for(retry: Retry, exit_code: int | None) -> ExitRule | None:
    """The rule that an exit code meets: one that lists it, else one for all codes. None for an end
    without a code."""
    if exit_code is None:
        return None
    listed = next((rule for rule in retry.rules if exit_code in rule.exit_codes), None)
    return listed or next((rule for rule in retry.rules if rule.match_all), None)


def most_attempts(retry: Retry, exit_code: int | None) -> int:
    """How many runs there may be in all after one that ended so."""
    if not retry.rules:
        return retry.max_attempts
    rule = rule_for(retry, exit_code)
    return rule.max_attempts if rule else 0
