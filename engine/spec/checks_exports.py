"""Rules about what `exports` lets other workspaces watch and use."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from engine.plain import shorten
from engine.spec.draft import Draft
from engine.spec.exports import SECRETS, names_read, reads_secrets
from engine.spec.model import EVERYBODY, Action, ExportedAction, JobEnds, Place, Problem
from engine.spec.problems import did_you_mean, error, warning

WORKSPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
GIVEN = frozenset({"input", *SECRETS})  # what the templates of an exported action can read


@dataclass(frozen=True, slots=True)
class _Kind:
    section: str
    of: Callable[[Draft], Mapping[str, JobEnds | ExportedAction]]
    words: str  # before the name, in messages
    anyway: str  # why an export to oneself has no effect

    def subject(self, name: str) -> str:
        return f"{self.words} '{shorten(name)}'"


ENDS = _Kind(
    "job_ends",
    lambda draft: draft.workspace.exports.job_ends,
    "Export of the ends of task",
    "whose triggers hear of all its jobs anyway",
)
ACTIONS = _Kind(
    "exported_actions",
    lambda draft: draft.workspace.exports.actions,
    "Export of action",
    "whose steps use all its actions anyway",
)


def check_exported_tasks(draft: Draft) -> Iterator[Problem]:
    for name, export in draft.workspace.exports.job_ends.items():
        if draft.is_complete and not draft.has("tasks", name):
            hint = did_you_mean(name, draft.sections["tasks"])
            message = f"{ENDS.subject(name)}: there is no task of this name{hint}"
            yield error(export.place, "missing-task", message)


def check_exported_actions(draft: Draft) -> Iterator[Problem]:
    for name, export in draft.workspace.exports.actions.items():
        action = draft.workspace.actions.get(name)
        if action is not None and name not in draft.inline:
            yield from _check_secrets(name, action, export)
        elif draft.is_complete and not draft.has("actions", name):
            hint = did_you_mean(name, draft.sections["actions"])
            message = f"{ACTIONS.subject(name)}: there is no action of this name{hint}"
            yield error(export.place, "missing-action", message)


def _check_secrets(name: str, action: Action, export: ExportedAction) -> Iterator[Problem]:
    """Jobs of the owner run with its secrets, so giving them away is said; and what is not given
    cannot be read."""
    subject = ACTIONS.subject(name)
    if not export.secrets and (action.task or action.tools):
        message = (
            f"{subject}: it starts jobs of this workspace, or speaks to its MCP servers, which have"
            " its secrets; write `secrets: true` to allow that"
        )
        yield error(export.place, "export-secrets", message)
        return
    if not export.secrets and reads_secrets(action):
        message = (
            f"{subject}: the action reads secrets, which this export does not give, so it fails in"
            " steps of other workspaces; write `secrets: true` to give them"
        )
        yield warning(export.place, "export-secrets", message)
    if strangers := sorted(names_read(action) - GIVEN):
        message = (
            f"{subject}: the action reads {', '.join(map(shorten, strangers))}; in steps of other"
            " workspaces its templates see only input and secret, so it fails there"
        )
        yield warning(export.place, "export-reads", message)


def check_receivers(draft: Draft) -> Iterator[Problem]:
    for kind in (ENDS, ACTIONS):
        for name, export in kind.of(draft).items():
            yield from _check_receivers(draft, kind, name, export.to)


def _check_receivers(
    draft: Draft, kind: _Kind, name: str, receivers: tuple[str, ...]
) -> Iterator[Problem]:
    subject, place = kind.subject(name), draft.at(kind.section, name, "to")
    if draft.node(kind.section, name, "to") is not None and not receivers:
        message = f"{subject} 'to' names no workspace: name some, or '*' for every one"
        yield error(place, "empty-field", message)
    for workspace in receivers:
        yield from _check_receiver(draft.name, subject, workspace, kind.anyway, place)


def _check_receiver(
    own: str, subject: str, workspace: str, anyway: str, place: Place
) -> Iterator[Problem]:
    shown = shorten(workspace)
    if workspace != EVERYBODY and not WORKSPACE.fullmatch(workspace):
        message = f"{subject} 'to': '{shown}' is neither a workspace's name nor '*'"
        yield error(place, "bad-type", message)
    elif workspace == own:
        message = f"{subject} 'to' names '{shown}', this workspace itself, {anyway}"
        yield warning(place, "no-effect", message)


CHECKS = (check_exported_tasks, check_exported_actions, check_receivers)
