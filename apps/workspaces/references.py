"""Resolves references of secrets: `ref+env://NAME` here, every other `ref+…` with the program
`vals`.

vals receives references on standard input, never as arguments, and all those of a workspace in one
call.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings

from apps.workspaces.errors import SecretError
from engine import templating
from engine.errors import TemplateError

ENVIRONMENT = "ref+env://"
# What authors may let the server fetch. Not allowed: anything that reads the server's own files,
# environment or programs.
SCHEMES = frozenset(
    {
        "awskms",
        "awssecrets",
        "awsssm",
        "azurekeyvault",
        "bitwarden",
        "conjur",
        "doppler",
        "gcpsecrets",
        "gcs",
        "gitlab",
    }
    | {"gkms", "hcpvaultsecrets", "infisical", "onepassword", "onepasswordconnect", "s3", "vault"}
)
_VALS_S = 30
_SCHEME = re.compile(r"(?:secret)?ref\+([A-Za-z0-9_]+)")
_PASSED_ON = (
    "PATH",
    "HOME",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
)
_PASSED_ON_FAMILIES = (
    "AWS_",
    "VAULT_",
    "AZURE_",
    "GOOGLE_",
    "CLOUDSDK_",
    "DOPPLER_",
    "CONJUR_",
    "OP_",
    "INFISICAL_",
)
Lookup = Callable[[str], Any]


def resolve(secrets: Mapping[str, Any]) -> dict[str, Any]:
    """`secrets` with references resolved, and templates rendered with the filter `vals`.

    Raises SecretError, which names the secret.
    """
    wanted: dict[str, str] = {}  # reference -> the secret that needs it
    for name, tree in secrets.items():
        _collect(tree, name, wanted)
    values = _fetch(wanted)
    return {name: _resolved(tree, name, values) for name, tree in secrets.items()}


def _collect(tree: Any, name: str, wanted: dict[str, str]) -> None:
    def note(reference: str) -> str:
        wanted.setdefault(reference, name)
        return ""

    # Templates can only be checked once their values are known.
    with suppress(TemplateError):
        _replace(tree, note)


def _resolved(tree: Any, name: str, values: dict[str, Any]) -> Any:
    def look_up(reference: str) -> Any:
        if reference not in values:  # assembled by a template from parts of other secrets
            values.update(_fetch({reference: name}))
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


def _fetch(wanted: Mapping[str, str]) -> dict[str, Any]:
    values = {
        reference: _from_environment(reference.removeprefix(ENVIRONMENT), name)
        for reference, name in wanted.items()
        if reference.startswith(ENVIRONMENT)
    }
    rest = [reference for reference in wanted if reference not in values]
    for reference in rest:
        _check_scheme(reference, wanted[reference])
    if rest:
        names = sorted({f"'{wanted[reference]}'" for reference in rest})
        values |= _ask_vals(rest, ", ".join(names[:5]))
    return values


def _from_environment(variable: str, name: str) -> str:
    if variable not in settings.STROEM.secrets.env_allowed:
        raise SecretError(
            f"secret '{name}' asks for the environment variable '{variable}', which"
            " `secrets.env_allowed` does not list"
        )
    try:
        return os.environ[variable]
    except KeyError:
        raise SecretError(
            f"secret '{name}' asks for the environment variable '{variable}', which is not set"
        ) from None


def _check_scheme(reference: str, name: str) -> None:
    for scheme in _SCHEME.findall(reference):
        if scheme not in SCHEMES:
            known = ", ".join(sorted(SCHEMES))
            raise SecretError(
                f"secret '{name}' refers to 'ref+{scheme}', which is not allowed (allowed: env,"
                f" {known})"
            )


def _ask_vals(references: Collection[str], names: str) -> dict[str, Any]:
    program = shutil.which("vals")
    if program is None:
        raise SecretError(f"secret {names}: vals CLI not found. Install vals to use ref+ secrets")
    asked = {f"_{index}": reference for index, reference in enumerate(references)}
    try:
        done = subprocess.run(
            [program, "eval", "-f", "-", "-o", "json"],
            input=json.dumps(asked).encode(),
            capture_output=True,
            timeout=_VALS_S,
            env=_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SecretError(f"secret {names}: vals did not answer within {_VALS_S} s") from None
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


def _environment() -> dict[str, str]:
    """The credentials of secret stores, and none of our own variables."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_FAMILIES)
    }
