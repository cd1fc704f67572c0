"""Secrets as people give them: those that they store in the database, encrypted; and what to warn
of in those of the files. What jobs get of them is in `revisions`."""

from __future__ import annotations

import json
import re
from typing import Any

from django.db import transaction

from apps.audit.services import CHANGED, note
from apps.workspaces.errors import LIMIT, SecretError, SlowSecretError
from apps.workspaces.models import Connection, Secret, Workspace
from apps.workspaces.references import rendered, resolve
from apps.workspaces.revisions import forget_secrets
from apps.workspaces.sealing import seal
from engine.errors import InputError, NotFound
from engine.masking import SURELY_SECRET, secret_strings
from engine.spec import freeze
from engine.spec.model import Place, Problem
from engine.spec.model import Workspace as Definition

LONGEST_SECRET = 100_000
SHORTEST_SECRET = 4
_NAME = re.compile(r"[A-Za-z0-9_]{1,200}")


def store_secret(workspace: Workspace, name: str, value: Any, *, by: str) -> Secret:
    """Store a secret, encrypted; it overrides one of the same name in the files. Raises
    InputError."""
    check_secret(name, value)
    values = {"sealed": seal(value), "updated_by": by}
    with transaction.atomic():
        row = Secret.objects.update_or_create(workspace=workspace, name=name, defaults=values)[0]
        told = {"value": CHANGED}
        note("secret.set", name, by=by, workspace=workspace.name, changes=told)
    forget_secrets(workspace.pk)
    return row


def check_secret(name: str, value: Any) -> None:
    """Raises InputError if templates could not name it or logs could not mask it."""
    if not _NAME.fullmatch(name):
        raise InputError({"name": "a secret name may contain only letters, digits and '_'"})
    if value == "":
        raise InputError({"value": "the value of a secret must not be empty"})
    if not isinstance(value, str | dict | list) or not value:
        raise InputError({"value": "a secret must be a text, or a mapping or list of texts"})
    if isinstance(value, str) and len(value.strip()) < SHORTEST_SECRET:
        raise InputError(
            {
                "value": (
                    f"a secret must have at least {SHORTEST_SECRET} characters, or it cannot be"
                    " masked"
                )
            }
        )
    if len(json.dumps(value)) > LONGEST_SECRET:
        raise InputError({"value": f"a secret may have at most {LONGEST_SECRET} bytes"})


def remove_secret(workspace: Workspace, name: str) -> None:
    """Delete a stored secret. Raises NotFound."""
    with transaction.atomic():
        if not Secret.objects.filter(workspace=workspace, name=name).delete()[0]:
            raise NotFound(f"Secret '{name}' not found")
        note("secret.remove", name, workspace=workspace.name)
    forget_secrets(workspace.pk)


# Warnings


def unresolved(definition: Definition, workspace: Workspace) -> list[Problem]:
    """Warnings about secrets and connections that cannot be resolved now; jobs that need them would
    fail."""
    rows = Connection.objects.filter(workspace=workspace)
    stored = set(rows.values_list("name", flat=True))
    written = {name: each for name, each in definition.connections.items() if name not in stored}
    try:
        rendered(written, resolve(definition.secrets, workspace.name))
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
