"""The arguments that filters and functions take. Any other is refused: `join(separator=', ')`
would otherwise join without a separator, and nobody would say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

# those that are missing here take none
OF_FILTERS: Mapping[str, tuple[str, ...]] = {
    "concat": ("with",),
    "date": ("format", "timezone"),
    "default": ("value",),
    "filter": ("attribute", "value"),
    "float": ("default",),
    "get": ("key", "default"),
    "group_by": ("attribute",),
    "indent": ("prefix", "first", "blank"),
    "int": ("default", "base"),
    "join": ("sep",),
    "json": ("pretty",),
    "json_encode": ("pretty",),
    "map": ("attribute",),
    "nth": ("n",),
    "pluralize": ("singular", "plural"),
    "replace": ("from", "to"),
    "round": ("method", "precision"),
    "slice": ("start", "end"),
    "sort": ("attribute",),
    "split": ("pat",),
    "trim_end_matches": ("pat",),
    "trim_start_matches": ("pat",),
    "truncate": ("length", "end"),
    "unique": ("attribute", "case_sensitive"),
}
OF_FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "now": ("timestamp", "utc"),
    "range": ("start", "end", "step_by"),
    "throw": ("message",),
}
# of both: those without which nothing can be done
_NEEDED: Mapping[str, tuple[str, ...]] = {
    "concat": ("with",),
    "filter": ("attribute",),
    "get": ("key",),
    "group_by": ("attribute",),
    "map": ("attribute",),
    "nth": ("n",),
    "range": ("end",),
    "replace": ("from", "to"),
    "split": ("pat",),
    "throw": ("message",),
    "trim_end_matches": ("pat",),
    "trim_start_matches": ("pat",),
}


def lack(name: str, what: str, given: Collection[str]) -> str | None:
    """Which argument the filter or function `name` needs and does not get; None if it has all."""
    missing = next((one for one in _NEEDED.get(name, ()) if one not in given), None)
    return f"{what} needs the argument '{missing}'" if missing else None


def refusal(what: str, given: str, known: tuple[str, ...]) -> str | None:
    """Why `what` (`the filter 'join'`) does not take the argument `given`; None if it does."""
    if given in known:
        return None
    if not known:
        return f"{what} takes no arguments"
    close = [name for name in known if given.startswith(name) or name.startswith(given)]
    close += get_close_matches(given[:40], known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"it takes {', '.join(known)}"
    return f"{what} has no argument '{given[:40]}' ({hint})"
