"""Reads `artifacts` of a step: what it leaves, for how long, and whose files it takes."""

from __future__ import annotations

from engine.durations import Duration
from engine.globs import find_objection
from engine.plain import shorten
from engine.spec.entry import Entry
from engine.spec.fields import ARTIFACT_FIELDS
from engine.spec.model import Artifacts

MOST_PATHS = 100
LONGEST_S = 10 * 365 * 86_400


def read_artifacts(step: Entry) -> Artifacts | None:
    node = step.mapping("artifacts")
    if node is None:
        return None
    entry = Entry(node, f"{step.subject} artifacts", step.problems)
    entry.refuse_unknown(ARTIFACT_FIELDS)
    return Artifacts(
        paths=_read_paths(entry),
        retain=read_retain(entry),
        on_failure=entry.flag("on_failure"),
        takes=tuple(dict.fromkeys(entry.texts("from"))),
    )


def read_retain(entry: Entry) -> Duration | None:
    retain = entry.duration("retain")
    if retain is not None and not 0 < retain.seconds <= LONGEST_S:
        entry.complain(
            "retain", f"must be longer than 0, at most 10 years, not {retain.seconds:g}s"
        )
        return None
    return retain


def _read_paths(entry: Entry) -> tuple[str, ...]:
    paths = entry.texts("paths")
    if len(paths) > MOST_PATHS:
        entry.complain("paths", f"has {len(paths)} globs (at most {MOST_PATHS})")
        return ()
    found = []
    for at, path in enumerate(paths):
        objection = find_objection(path)
        if objection is None:
            found.append(path)
            continue
        place = entry.items("paths")[at].place
        message = f"{entry.subject} 'paths': '{shorten(path)}' {objection}"
        entry.problems.error(place, "artifacts", message)
    return tuple(found)
