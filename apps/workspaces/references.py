"""Resolves references of secrets: `ref+env://NAME` here, every other `ref+…` with the program
`vals`.

vals receives references on standard input, never as arguments, and all those that need the same
credentials in one call.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from django.conf import settings

from apps.workspaces import programs
from apps.workspaces.allowances import allows_variable, check_reference
from apps.workspaces.errors import SecretError, SlowSecretError
from apps.workspaces.fetches import fetched
from apps.workspaces.stores import SCHEMES
from engine import templating
from engine.errors import TemplateError

ENVIRONMENT = "ref+env://"
Lookup = Callable[[str], Any]


def resolve(secrets: Mapping[str, Any], workspace: str) -> dict[str, Any]:
    """`secrets` with references resolved as far as this workspace may, and templates rendered with
    the filter `vals`.

    Raises SecretError, which names the secret.
    """
    wanted: dict[str, str] = {}  # reference -> the secret that needs it
    for name, tree in secrets.items():
        _collect(tree, name, wanted)
    values = _fetch(wanted, workspace)
    return {name: _resolved(tree, name, values, workspace) for name, tree in secrets.items()}


def _collect(tree: Any, name: str, wanted: dict[str, str]) -> None:
    def note(reference: str) -> str:
        wanted.setdefault(reference, name)
        return ""

    # Templates can only be checked once their values are known.
    with suppress(TemplateError):
        _replace(tree, note)


def _resolved(tree: Any, name: str, values: dict[str, Any], workspace: str) -> Any:
    def look_up(reference: str) -> Any:
        if reference not in values:  # assembled by a template from parts of other secrets
            values.update(_fetch({reference: name}, workspace))
        return values[reference]

    try:
        return _replace(tree, look_up)
    except TemplateError as error:
        raise SecretError(f"secret '{name}': {error}") from None


def _replace(tree: Any, lookup: Lookup) -> Any:
    match tree:
        case dict():
            return {key: _replace(value, lookup) for key, value in tree.items()}
        case list() | tuple():
            return [_replace(value, lookup) for value in tree]
        case str() if "{{" in tree:
            return templating.evaluate(
                tree, {}, filters={"vals": lambda value: _vals(value, lookup)}
            )
        case str():
            return _vals(tree, lookup)
    return tree


def _vals(value: Any, lookup: Lookup) -> Any:
    return lookup(value) if isinstance(value, str) and value.startswith("ref+") else value


def _fetch(wanted: Mapping[str, str], workspace: str) -> dict[str, Any]:
    values = {
        reference: _from_environment(reference.removeprefix(ENVIRONMENT), name, workspace)
        for reference, name in wanted.items()
        if reference.startswith(ENVIRONMENT)
    }
    asked: dict[tuple[str, ...], list[str]] = defaultdict(list)  # by the credentials they need
    for reference, name in wanted.items():
        if reference not in values:
            asked[SCHEMES[check_reference(reference, name, workspace)]].append(reference)
    for variables, references in asked.items():
        names = sorted({f"'{wanted[reference]}'" for reference in references})
        ask = partial(_ask_vals, references, ", ".join(names[:5]), variables)
        values |= fetched((workspace, *sorted(references)), ask)
    return values


def _from_environment(variable: str, name: str, workspace: str) -> str:
    if not allows_variable(variable, workspace):
        raise SecretError(
            f"secret '{name}' asks for the environment variable '{variable}', which"
            f" `secrets.env_allowed` does not list, nor a rule for workspace '{workspace}'"
        )
    try:
        return os.environ[variable]
    except KeyError:
        raise SecretError(
            f"secret '{name}' asks for the environment variable '{variable}', which is not set"
        ) from None


def _ask_vals(
    references: Collection[str], names: str, variables: Collection[str]
) -> dict[str, Any]:
    program = shutil.which("vals")
    if program is None:
        raise SecretError(f"secret {names}: vals CLI not found. Install vals to use ref+ secrets")
    asked = {f"_{index}": reference for index, reference in enumerate(references)}
    given, seconds = json.dumps(asked).encode(), settings.STROEM.secrets.timeout_s
    words = ("eval", "-f", "-", "-o", "json")
    try:
        done = programs.run(program, *words, given=given, variables=variables, seconds=seconds)
    except subprocess.TimeoutExpired:
        raise SlowSecretError(f"secret {names}: vals did not answer within {seconds:g} s") from None
    except OSError as error:
        raise SecretError(f"secret {names}: vals cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise SecretError(
            f"secret {names}: vals eval failed (exit {done.returncode}):"
            f" {(reason or ['?'])[-1][:300]}"
        )
    try:
        answer = json.loads(done.stdout)
        return {reference: answer[key] for key, reference in asked.items()}
    except (ValueError, KeyError, TypeError):
        raise SecretError(f"secret {names}: vals did not answer with the expected JSON") from None


def rendered(
    connections: Mapping[str, Mapping[str, Any]], secrets: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """`connections` with templates rendered in the context `secret`. Raises SecretError, which
    names the connection."""
    context = {"secret": secrets, "secrets": secrets}
    found = {}
    for name, values in connections.items():
        try:
            found[name] = {key: render(value, context) for key, value in values.items()}
        except TemplateError as error:
            raise SecretError(f"connection '{name}': {error}") from None
    return found


def render(value: Any, context: Mapping[str, Any]) -> Any:
    """`value` with the templates of the author rendered, at any depth."""
    match value:
        case str():
            return templating.render(value, context) if templating.has_tags(value) else value
        case dict():
            return {key: render(inner, context) for key, inner in value.items()}
        case list():
            return [render(inner, context) for inner in value]
    return value
