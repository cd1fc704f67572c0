"""Actions of other workspaces: what the owner's files, as they are in force, let a workspace use.

A refusal is the same whether the workspace, the action or the consent is missing: nobody learns
here what others have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from apps.workspaces.errors import NotExported
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definitions_of
from engine.spec.exports import is_elsewhere, reads_secrets
from engine.spec.model import EVERYBODY, Action, Problem
from engine.spec.model import Workspace as Definition
from engine.spec.problems import did_you_mean


@dataclass(frozen=True, slots=True)
class Shared:
    """An action of another workspace, at the revision in force there."""

    owner: str
    revision_id: int
    digest: str
    action: Action
    with_secrets: bool
    mentions_state: bool = False
    mentions_artifacts: bool = False


def find(caller: str, action: str) -> Shared:
    """What steps of `caller` get for OWNER.NAME. Raises NotExported, with what the owner must
    write."""
    owner, _, name = action.partition(".")
    rows = Workspace.objects.filter(name=owner, current__isnull=False)
    row = rows.values_list("current_id", "current__digest").first()
    contents = definitions_of([row[0]]).get(row[0]) if row is not None else None
    export = contents.exports.actions.get(name) if contents is not None else None
    if row is None or contents is None or export is None or not export.reaches(caller):
        raise NotExported(_refusal(caller, owner, name, contents))
    found = contents.actions[name]
    if not export.secrets and reads_secrets(found):
        raise NotExported(without_secrets(caller, action))
    return Shared(
        owner,
        row[0],
        row[1],
        found,
        export.secrets,
        contents.mentions_state,
        contents.mentions_artifacts,
    )


def _refusal(caller: str, owner: str, name: str, contents: Definition | None) -> str:
    exported = contents.exports.actions if contents is not None else {}
    hint = did_you_mean(name, [other for other in exported if exported[other].reaches(caller)])
    return (
        f"403: no workspace '{owner}' exports action '{name}' to workspace '{caller}'{hint}; its"
        f" files need `exports: {{actions: {{{name}: {{to: [{caller}]}}}}}}`"
    )


def without_secrets(caller: str, action: str) -> str:
    owner, _, name = action.partition(".")
    return (
        f"403: workspace '{owner}' exports action '{name}' to workspace '{caller}' without its"
        " secrets, which the action reads; its files need"
        f" `exports: {{actions: {{{name}: {{to: [{caller}], secrets: true}}}}}}`"
    )


def doubts(workspace: Workspace, definition: Definition) -> Iterator[Problem]:
    """Warnings about steps with actions that no other workspace lets this one use."""
    for name, task in definition.tasks.items():
        for step_name, step in task.flow.items():
            if is_elsewhere(step.action, definition.actions, workspace.name):
                try:
                    find(workspace.name, step.action)
                except NotExported as refusal:
                    message = f"Task '{name}' step '{step_name}' fails: {refusal}"
                    yield Problem(step.place, "export", message, "warning")


def receivers(definition: Definition) -> dict[str, str]:
    """Who may use which action, in words."""
    return {
        name: ("every workspace" if EVERYBODY in export.to else ", ".join(export.to))
        + (" with secrets" if export.secrets else "")
        for name, export in definition.exports.actions.items()
    }
