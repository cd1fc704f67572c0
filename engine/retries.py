"""When and how often a step is retried."""

from __future__ import annotations

from engine.spec.model import ExitRule, Retry

MAX_DOUBLINGS = 6


def delay_s(retry: Retry, runs: int, chance: float) -> float:
    """Seconds to wait after run number `runs` (from 1) failed. `chance` in [0, 1) spreads it by
    +-25 % with jitter.

    Exponential back-off doubles with each run and stops growing after six doublings.
    """
    base = retry.delay_s
    if retry.backoff == "exponential":
        base *= 2 ** min(runs - 1, MAX_DOUBLINGS)
    return base * (0.75 + 0.5 * chance) if retry.jitter else base


def rule_for(retry: Retry, exit_code: int | None) -> ExitRule | None:
    """The rule for an exit code: one that lists it, else one for all codes. None without a code."""
    if exit_code is None:
        return None
    listed = next((rule for rule in retry.rules if exit_code in rule.exit_codes), None)
    return listed or next((rule for rule in retry.rules if rule.match_all), None)


def most_attempts(retry: Retry, exit_code: int | None) -> int:
    """The maximum number of runs, given the exit code of the last one."""
    if not retry.rules:
        return retry.max_attempts
    rule = rule_for(retry, exit_code)
    return rule.max_attempts if rule else 0
