"""Doors for the rooms above: what follows from a revision of a workspace, and what speaks against
one. Handlers register in `AppConfig.ready()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from apps.workspaces.models import Revision, Workspace
from engine.spec.model import Problem
from engine.spec.model import Workspace as Definition

RevisionHandler = Callable[[Workspace, Revision | None], None]
Check = Callable[[Workspace, Definition], list[Problem]]
_revisions: dict[str, RevisionHandler] = {}
_checks: dict[str, tuple[Check, tuple[str, ...]]] = {}


def on_revision(name: str, handler: RevisionHandler) -> None:
    """Register a handler for the revision in force, called in the transaction that notes it; None:
    the workspace has none any more. It may be the same one again."""
    _revisions[name] = handler


def on_check(name: str, check: Check, *, about: tuple[str, ...] = ()) -> None:
    """Register a check of a new state of the files against the rest of the installation. `about`:
    only if the files say something about one of these attributes of the definition."""
    _checks[name] = (check, about)


def came_into_force(workspace: Workspace, revision: Revision | None) -> None:
    for handler in _revisions.values():
        handler(workspace, revision)


def doubts(workspace: Workspace, definition: Definition) -> Iterator[Problem]:
    for check, about in _checks.values():
        if not about or any(getattr(definition, name) is not None for name in about):
            yield from check(workspace, definition)
