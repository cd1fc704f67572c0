"""What a workspace's files ask for in vain about how long and how much is kept."""

from __future__ import annotations

from django.conf import settings

from apps.workspaces.models import Workspace
from engine.spec.model import Keeping, Problem
from engine.spec.model import Workspace as Definition

_CODE = "keeping"


def doubts(workspace: Workspace, definition: Definition) -> list[Problem]:
    """Warnings about limits of the files that have no effect here."""
    known = settings.STROEM
    found = []
    if definition.logs is not None:
        if not known.archives_logs:
            text = (
                "Setting 'logs' has no effect: the lines of ended jobs stay in the database here"
                " (`logs.archive` of the server's settings)"
            )
            return [Problem(definition.logs.place, _CODE, text, "warning")]
        found += _idle("logs", definition.logs, *known.logs.limits_of(workspace.name))
    if definition.artifacts is not None:
        kept = known.artifacts
        most = None if kept.workspace_mb is None else kept.workspace_mb << 20
        found += _idle("artifacts", definition.artifacts, kept.retain, most)
    return found


def _idle(name: str, own: Keeping, kept_s: float | None, kept_bytes: int | None) -> list[Problem]:
    retain, most_mb = own.retain, own.workspace_mb
    words = []
    if retain is not None and kept_s is not None and retain.seconds > kept_s:
        words.append("retain")
    if most_mb is not None and kept_bytes is not None and most_mb << 20 > kept_bytes:
        words.append("workspace_mb")
    return [
        Problem(
            own.place,
            _CODE,
            f"Setting '{name}' '{word}' has no effect: the server's settings allow less"
            f" (`{name}.{word}`)",
            "warning",
        )
        for word in words
    ]
