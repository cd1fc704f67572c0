"""Warnings about the secrets of a definition."""

from __future__ import annotations

from typing import Any

from apps.workspaces import secrets as secret_store
from apps.workspaces.errors import LIMIT, SecretError, SlowSecretError
from apps.workspaces.references import resolve
from engine.masking import SURELY_SECRET, secret_strings
from engine.spec import freeze
from engine.spec.model import Place, Problem
from engine.spec.model import Workspace as Definition


def unresolved(definition: Definition, workspace: str) -> list[Problem]:
    """Warnings about secrets and connections that cannot be resolved now; jobs that need them would
    fail."""
    try:
        secrets = resolve(definition.secrets, workspace)
        secret_store.rendered(definition.connections, secrets)
    except SecretError as error:
        code = LIMIT if isinstance(error, SlowSecretError) else "secret"
        return [Problem(Place(), code, str(error), "warning")]
    return []


def written_out(definition: Definition) -> list[Problem]:
    """Warnings about values of secrets repeated outside of `secrets:`, where they cannot be
    hidden."""
    found = []
    for name, value in definition.secrets.items():
        texts = tuple(
            text
            for text in secret_strings(value)
            if len(text) >= SURELY_SECRET and "{{" not in text
        )
        if not texts:
            continue
        for kind, things in (("Action", definition.actions), ("Task", definition.tasks)):
            for owner, thing in things.items():
                if _mentions(freeze.to_json(thing), texts):
                    message = (
                        f"{kind} '{owner}' repeats the value of secret '{name}', so it is"
                        f" stored in clear; write {{{{ secret.{name} }}}} instead"
                    )
                    found.append(Problem(thing.place, "secret-in-clear", message, "warning"))
    return found


def _mentions(tree: Any, texts: tuple[str, ...]) -> bool:
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if any(text in value for text in texts):
                return True
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return False
