"""Reads `access:` from YAML: whom the files keep rights to, on a task or on all that match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.plain import shorten
from engine.rights import EVERYTHING, Right
from engine.spec.entry import Entry
from engine.spec.model import Kept
from engine.spec.problems import did_you_mean

OF_TASKS = tuple(str(right) for right in Right if right is not Right.SECRETS)
ALL = tuple(map(str, Right))
LONGEST_PATTERN = 400


def read_access(entry: Entry) -> Mapping[str, Kept]:
    """That of a task."""
    node = entry.mapping("access")
    if node is None:
        return {}
    return read_kept(Entry(node, f"{entry.subject} access", entry.problems), OF_TASKS)


def read_shared_access(pattern: str, entry: Entry) -> Mapping[str, Kept]:
    """That of the workspace, for what matches `pattern`."""
    if not pattern or len(pattern) > LONGEST_PATTERN or not pattern.isprintable():
        message = (
            f"{entry.subject} must be a pattern such as ops/* of at most {LONGEST_PATTERN} letters"
        )
        entry.problems.error(entry.node.place, "access", message)
    return read_kept(entry, OF_TASKS if pattern.strip(EVERYTHING) else ALL)


def read_kept(entry: Entry, known: Iterable[str]) -> Mapping[str, Kept]:
    known = tuple(known)
    found: dict[str, Kept] = {}
    for right, node in entry.pairs.items():
        if right not in known:
            _refuse(entry, right, known)
            continue
        inner = Entry(node, f"{entry.subject} '{right}'", entry.problems)
        inner.refuse_unknown(("users", "groups"))
        kept = Kept(
            tuple(email.strip().lower() for email in inner.texts("users")), inner.texts("groups")
        )
        if isinstance(node.value, dict) and not (kept.users or kept.groups):
            message = (
                f"{inner.subject} must name users or groups: superusers keep every right anyway"
            )
            entry.problems.error(entry.at(right), "access", message)
        found[right] = kept
    return found


def _refuse(entry: Entry, right: str, known: tuple[str, ...]) -> None:
    if right == Right.SECRETS:
        why = "belongs to the whole workspace: write it under the pattern '*' of top-level 'access'"
        message = f"{entry.subject} cannot keep 'secrets' on some tasks; it {why}"
    else:
        hint = did_you_mean(right, known)
        message = (
            f"{entry.subject} has unknown right '{shorten(right)}'{hint}; there are"
            f" {', '.join(known)}"
        )
    entry.problems.error(entry.at(right), "access", message)
