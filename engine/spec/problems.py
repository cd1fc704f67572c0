"""Problems: reporting, ordering and "did you mean" hints."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from engine.plain import plain
from engine.spec.model import Place, Problem

MOST_PROBLEMS = 500
_MOST_CANDIDATES = 200
_FARTHEST = 8  # maximum difference in length between a word and its typo


def error(place: Place, code: str, message: str) -> Problem:
    return Problem(place, code, message)


def warning(place: Place, code: str, message: str) -> Problem:
    return Problem(place, code, message, "warning")


class TooManyErrors(Exception):
    """Too many errors: reading must stop."""


class Problems:
    """The problems so far; the same message at the same place counts once.

    Raises TooManyErrors at the five hundredth error, so that a hostile file cannot keep us busy.
    The first five hundred warnings are kept.
    """

    def __init__(self) -> None:
        self._errors: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}
        self._is_cut = False

    def add(self, problem: Problem) -> None:
        if problem.severity == "error":
            self._errors[problem] = None
            if len(self._errors) >= MOST_PROBLEMS:
                raise TooManyErrors
        elif len(self._warnings) < MOST_PROBLEMS:
            self._warnings[problem] = None
        else:
            self._is_cut = True

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.add(problem)

    def error(self, place: Place, code: str, message: str) -> None:
        self.add(error(place, code, message))

    def warning(self, place: Place, code: str, message: str) -> None:
        self.add(warning(place, code, message))

    @property
    def has_errors(self) -> bool:
        return bool(self._errors)

    def in_order(self) -> tuple[Problem, ...]:
        """By place; errors before warnings at the same place. The last one says if some are
        missing."""
        found = sorted(
            (*self._errors, *self._warnings),
            key=lambda p: (
                p.place.file,
                p.place.line,
                p.place.column,
                p.severity,
                p.code,
                p.message,
            ),
        )
        if len(self._errors) >= MOST_PROBLEMS:
            words = f"there are {MOST_PROBLEMS} errors and perhaps more; checking stopped"
            found.append(error(found[-1].place, "too-many", words))
        elif self._is_cut:
            words = f"there are more than {MOST_PROBLEMS} warnings; the rest is not shown"
            found.append(warning(found[-1].place, "too-many", words))
        return tuple(found)


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
    if elsewhere is not None:
        known = tuple(known)
    close = elsewhere if elsewhere and elsewhere in known else nearest(word, known)
    return f" (did you mean '{close}'?)" if close else ""


def shorten(value: object, limit: int = 60) -> str:
    """`value` as text for a message: control characters escaped, at most `limit` characters."""
    text = plain(str(value)[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"
