"""What workspaces use of each other: what one lets others use, read from YAML, and how they name
it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from engine import templating
from engine.spec.entry import Entry
from engine.spec.fields import PRIMITIVES
from engine.spec.model import Action, ExportedAction, JobEnds, Place
from engine.spec.sites import texts_in

ELSEWHERE = "elsewhere"  # code of what an installation checks in its own words
SECRETS = frozenset({"secret", "secrets"})


def read_job_ends(entry: Entry, place: Place) -> JobEnds:
    entry.refuse_unknown(("to", "output"))
    entry.require("to", place)
    return JobEnds(entry.texts("to"), entry.flag("output"), place)


def read_exported_action(entry: Entry, place: Place) -> ExportedAction:
    entry.refuse_unknown(("to", "secrets"))
    entry.require("to", place)
    return ExportedAction(entry.texts("to"), entry.flag("secrets"), place)


def is_elsewhere(action: str, known: Container[str], own: str) -> bool:
    """Whether it is the name of another workspace's action: WORKSPACE.ACTION."""
    owner, dot, rest = action.partition(".")
    return bool(dot and rest) and owner != own and action not in known


def names_read(action: Action) -> frozenset[str]:
    """The names that its own templates read, wherever its steps stand."""
    found = [templating.references(text).names for text in texts_in(_templates(action))]
    return frozenset[str]().union(*found)


def reads_secrets(action: Action) -> bool:
    """Whether it needs secrets or connections of its workspace. The default of a secret field is
    one, and so is that of a field with a connection."""
    return bool(names_read(action) & SECRETS) or any(
        declared.has_default and (declared.secret or declared.type not in PRIMITIVES)
        for declared in action.input.values()
    )


def _templates(action: Action) -> list[Any]:
    asked = action.output.values() if action.type == "agent" else ()
    return [
        action.script, action.source, action.cmd, action.image, action.message, action.prompt,
        action.system_prompt, action.args, action.env, action.manifest,
        [(declared.description, declared.options) for declared in asked],
        [declared.default for declared in action.input.values()],
    ]  # fmt: skip
