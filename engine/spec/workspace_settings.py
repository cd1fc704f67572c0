"""Reads the `settings` of a workspace: how templates are judged, what agents may spend, and how
long and how much is kept of logs and artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.plain import shorten
from engine.spec.agents import read_shared_limits
from engine.spec.artifacts import read_retain
from engine.spec.draft import Named, Problems
from engine.spec.entry import Entry
from engine.spec.model import Keeping
from engine.spec.problems import did_you_mean

KEPT = ("logs", "artifacts")
_SETTINGS = ("unsafe_templates", "limits", *KEPT)
FIELDS = ("retain", "workspace_mb")


def read_settings(section: Mapping[str, Named], problems: Problems) -> dict[str, Any]:
    """By attribute of the workspace. The words for templates stay under `settings`."""
    words: dict[str, str] = {}
    found: dict[str, Any] = {"settings": words}
    for name, named in section.items():
        if name == "limits":
            limits = Entry(named.node, "Setting 'limits'", problems)
            found["limits"] = read_shared_limits(limits)
        elif name in KEPT:
            found[name] = _read_keeping(name, named, problems)
        elif name not in _SETTINGS:
            message = f"unknown setting '{shorten(name)}'{did_you_mean(name, _SETTINGS)}"
            problems.error(named.place, "unknown-key", message)
        elif named.node.value not in ("warn", "refuse"):
            message = (
                f"Setting '{name}' must be one of warn, refuse, not '{shorten(named.node.text)}'"
            )
            problems.error(named.place, "setting", message)
        else:
            words[name] = named.node.value
    return found


def _read_keeping(name: str, named: Named, problems: Problems) -> Keeping | None:
    if named.node.value is None:
        return None
    entry = Entry(named.node, f"Setting '{name}'", problems)
    entry.refuse_unknown(FIELDS)
    return Keeping(read_retain(entry), entry.whole("workspace_mb", 1), named.place)
