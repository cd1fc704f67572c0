"""Words for what a caller wrote and nobody can follow: unknown names, several values, none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from django.http import QueryDict

LONGEST = 60


def unknown(what: str, given: Iterable[str], known: Collection[str]) -> str:
    """One sentence about the first name that is not known, with what was probably meant; empty if
    all are known."""
    name = next((name for name in given if name not in known), None)
    if name is None:
        return ""
    near = get_close_matches(name, known, n=1)
    if near:
        hint = f"did you mean '{near[0]}'?"
    else:
        hint = f"expected one of: {', '.join(known)}" if known else "none is accepted here"
    return f"Unknown {what} '{_shown(name)}'; {hint}"


def twice(what: str, given: QueryDict) -> str:
    """One sentence about the first name that has several values, of which only one would count;
    empty if there is none."""
    name = next((name for name, values in given.lists() if len(values) > 1), None)
    return "" if name is None else f"The {what} '{_shown(name)}' is given more than once"


def empty(what: str, given: QueryDict, allowed: Mapping[str, str]) -> str:
    """One sentence about the first name whose value is blank, with what may be given instead; empty
    if there is none. Names without words in `allowed` may be blank."""
    for name, value in given.items():
        if not str(value).strip() and allowed.get(name):
            return f"The {what} '{name}' has no value; leave it out, or give {allowed[name]}"
    return ""


def _shown(name: str) -> str:
    clean = "".join(char if char.isprintable() else "\ufffd" for char in name)
    return clean if len(clean) <= LONGEST else clean[: LONGEST - 1] + "…"
