"""Doors for the rooms above: what follows from a revision of a workspace, and what speaks against
one. Handlers register in `AppConfig.ready()`, each for what it is about: most workspaces use little
of the language."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

from django.db.models import Model

from apps.workspaces.models import Workspace
from engine.spec.model import Problem
from engine.spec.model import Workspace as Definition

Follower = Callable[[Workspace, Definition | None], None]
Check = Callable[[Workspace, Definition], list[Problem]]
_followers: dict[str, tuple[Follower, type[Model]]] = {}
_checks: dict[str, tuple[Check, tuple[str, ...]]] = {}


def on_revision(about: str, handler: Follower, rows: type[Model]) -> None:
    """Register a handler for the definition in force, called in the transaction that notes it;
    None: the workspace has none any more. It may be the same one again.

    `about` is an attribute of the definition. Where that is empty, the handler is called only if
    the workspace has `rows`: what an earlier revision left must be followed, too.
    """
    _followers[about] = (handler, rows)


def on_check(name: str, check: Check, *, about: tuple[str, ...]) -> None:
    """Register a check of a new state of the files against the rest of the installation, called if
    one of these attributes of the definition (`exports.job_ends`) is not empty."""
    _checks[name] = (check, about)


def came_into_force(workspace: Workspace, definition: Definition | None) -> None:
    for about, (handler, rows) in _followers.items():
        is_about = definition is not None and bool(getattr(definition, about))
        if is_about or rows._default_manager.filter(workspace=workspace).exists():
            handler(workspace, definition)


def doubts(workspace: Workspace, definition: Definition) -> Iterator[Problem]:
    for check, about in _checks.values():
        if any(attrgetter(name)(definition) for name in about):
            yield from check(workspace, definition)
