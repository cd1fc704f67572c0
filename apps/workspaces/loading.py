"""Definitions as this installation reads them: by its own rules."""

from __future__ import annotations

from collections.abc import Container

from django.conf import settings

from apps.workspaces import reading, sops
from apps.workspaces.reading import Rules
from apps.workspaces.sources.tree import Tree
from engine.spec.model import Loaded


def load(tree: Tree, name: str, stored_secrets: Container[str] = ()) -> Loaded:
    """See `reading.load`."""
    given = settings.STROEM
    rules = Rules(
        given.unsafe_templates,
        given.refresh.definition_mb,
        sops.decrypt,
        given.agents.providers,
        given.agents.mcp,
    )
    return reading.load(tree, name, stored_secrets, rules)
