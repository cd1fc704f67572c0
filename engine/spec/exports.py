"""Reads from YAML what other workspaces may use of this one."""

from __future__ import annotations

from engine.spec.entry import Entry
from engine.spec.model import JobEnds, Place


def read_job_ends(entry: Entry, place: Place) -> JobEnds:
    entry.refuse_unknown(("to", "output"))
    entry.require("to", place)
    return JobEnds(entry.texts("to"), entry.flag("output"), place)
