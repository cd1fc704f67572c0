"""What is said of one mistake: the problem, and "did you mean" hints. `draft` collects them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from engine.look_alikes import twin
from engine.spec.model import Place, Problem

_MOST_CANDIDATES = 200
_FARTHEST = 8  # maximum difference in length between a word and its typo


def error(place: Place, code: str, message: str) -> Problem:
    return Problem(place, code, message)


def warning(place: Place, code: str, message: str) -> Problem:
    return Problem(place, code, message, "warning")


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that `word` is probably a typo of; 0.6 guesses, 0.8 is nearly certain."""
    if len(word) > 100:  # difflib is quadratic, and longer words are not typos
        return None
    alike = (candidate for candidate in known if abs(len(candidate) - len(word)) <= _FARTHEST)
    by_lower = {candidate.lower(): candidate for candidate in islice(alike, _MOST_CANDIDATES)}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[found[0]] if found else None


# what other systems call our keys
_ELSEWHERE = {
    "steps": "flow", "stages": "flow", "jobs": "tasks", "workflows": "tasks", "run": "script",
    "needs": "depends_on", "requires": "depends_on", "if": "when", "condition": "when",
    "loop": "for_each", "matrix": "for_each", "with_items": "for_each", "inputs": "input",
    "params": "input", "parameters": "input", "with": "input", "uses": "action",
    "outputs": "output", "environment": "env", "variables": "env", "enum": "options",
    "choices": "options", "container": "image", "cwd": "workdir", "working_directory": "workdir",
    "working-directory": "workdir", "retries": "retry", "timeout-minutes": "timeout",
    "schedule": "triggers", "on": "triggers", "concurrency": "max_concurrent_jobs",
    "on_failure": "on_error", "continue_on_error": "continue_on_failure",
}  # fmt: skip


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    elsewhere = _ELSEWHERE.get(word)
    if elsewhere is not None or not word.isascii():
        known = tuple(known)
    if not word.isascii():
        candidate, why = twin(word, known)
        if why:
            return f" (did you mean '{candidate}'? {why})"
    close = elsewhere if elsewhere and elsewhere in known else nearest(word, known)
    return f" (did you mean '{close}'?)" if close else ""
