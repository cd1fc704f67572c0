"""What the operator lets a workspace fetch: `secrets.references` of the settings.

The server's credentials reach more than the author of one workspace may read, so nothing is allowed
that no rule names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from django.conf import settings

from apps.workspaces.errors import SecretError, SourceError
from apps.workspaces.stores import ENV, HARMLESS, LOCAL_KEYS, SCHEMES, SOPS, SOPS_KEYS

_REFERENCE = re.compile(
    r"ref\+(?P<scheme>[a-z0-9]+)://(?P<path>[^?#+\x00-\x1f]*)(?:\?(?P<query>[^?#+\x00-\x1f]*))?"
    r"(?:#[^+\x00-\x1f]*)?\+?"
)
_SCHEME = re.compile(r"ref\+([A-Za-z0-9_]+)")
_PLAIN = frozenset(
    "shamir_threshold lastmodified mac version unencrypted_suffix encrypted_suffix"
    " unencrypted_regex encrypted_regex unencrypted_comment_regex encrypted_comment_regex"
    " mac_only_encrypted".split()
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the operator's rules that fits the workspace."""

    paths: tuple[str, ...]
    parameters: tuple[str, ...]


def check_reference(reference: str, secret: str, workspace: str) -> str:
    """The scheme of the reference. Raises SecretError, with the cure, unless a rule allows it."""
    said = f"secret '{secret}'"
    for scheme in _SCHEME.findall(reference):
        if scheme not in SCHEMES:
            known = ", ".join(sorted(SCHEMES))
            raise SecretError(
                f"{said} refers to 'ref+{scheme}', which is not allowed (allowed: env, {known})"
            )
    found = _REFERENCE.fullmatch(reference)
    if found is None or reference.count("ref+") > 1:
        raise SecretError(
            f"{said} is not one plain reference; write each as {{{{ 'ref+…' | vals }}}}"
        )
    scheme, path = found["scheme"], unquote(found["path"])
    if _strays(path):
        raise SecretError(f"{said}: the path of its reference holds '..', '@' or a code for one")
    fitting = [rule for rule in _rules(scheme, workspace) if _covers(rule.paths, path)]
    if not fitting:
        raise SecretError(_not_listed(said, f"ref+{scheme}://{found['path']}", scheme, workspace))
    _check_parameters(found["query"], said, fitting)
    return scheme


def allows_variable(name: str, workspace: str) -> bool:
    """Whether the workspace may read this variable of the server's environment."""
    given = settings.STROEM.secrets
    return name in given.env_allowed or any(name in rule.paths for rule in _rules(ENV, workspace))


def check_keys(metadata: Any, workspace: str) -> frozenset[str]:
    """The kinds of keys that a file of SOPS names. Raises SourceError unless all are allowed: with
    each, SOPS would present the server's credentials where the file says."""
    kinds = set()
    for kind, name in _keys(metadata):
        kinds.add(kind)
        rules = _rules(SOPS, workspace)
        has_rules = any(rule.scheme == SOPS for rule in settings.STROEM.secrets.references.values())
        is_ours = kind in LOCAL_KEYS and not has_rules
        if not is_ours and not any(_covers(rule.paths, f"{kind}:{name}") for rule in rules):
            raise SourceError(_not_listed("the file", f"{kind}:{name}", SOPS, workspace))
    return frozenset(kinds)


def _rules(scheme: str, workspace: str) -> list[Rule]:
    return [
        Rule(rule.paths, rule.parameters)
        for rule in settings.STROEM.secrets.references.values()
        if rule.scheme == scheme and any(_fits(one, workspace) for one in rule.workspaces)
    ]


def _fits(pattern: str, workspace: str) -> bool:
    """As patterns of grants do; this room is entered where there are no accounts."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), workspace) is not None


def _strays(path: str) -> bool:
    parts = path.split("/")
    return (
        any(part in (".", "..") for part in parts)
        or "" in parts[1:-1]
        or any(letter in path for letter in "%?#\\@")
        or not path.isprintable()
    )


def _covers(prefixes: tuple[str, ...], path: str) -> bool:
    """Whether the path is one of these, or lies below one; `*` alone is all of them."""
    bare = path.removeprefix("/")
    for prefix in prefixes:
        root = prefix.strip("/")
        if prefix == "*" or bare == root or bare.startswith(f"{root}/"):
            return True
    return False


def _check_parameters(query: str | None, said: str, rules: list[Rule]) -> None:
    for name, _ in parse_qsl(query or "", keep_blank_values=True):
        if name not in HARMLESS and not any(name in rule.parameters for rule in rules):
            raise SecretError(
                f"{said}: its reference has the parameter '{name[:50]}', which no rule of"
                " `secrets.references` allows; addresses, authentication and files come from the"
                " server's own environment"
            )


def _not_listed(said: str, what: str, scheme: str, workspace: str) -> str:
    return (
        f"{said} refers to '{what[:200]}', and no rule of `secrets.references` with `scheme:"
        f" {scheme}` lets workspace '{workspace}' read that; an operator can add one to the"
        " server's settings"
    )


def _keys(metadata: Any) -> Iterator[tuple[str, str]]:
    """(kind, name) of each key in the metadata of SOPS. Raises SourceError for what it does not
    know: another kind may have an address, too."""
    if not isinstance(metadata, Mapping):
        raise SourceError("the file has no metadata of SOPS; encrypt it with `sops`")
    for field, value in metadata.items():
        if field == "key_groups":
            for group in _listed(value):
                yield from _keys(group)
        elif field in SOPS_KEYS:
            for key in _listed(value):
                yield field, _name_of(field, key)
        elif field not in _PLAIN and value:
            raise SourceError(
                f"its SOPS metadata has '{str(field)[:50]}', which Stroem cannot check"
            )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise SourceError("its SOPS metadata cannot be read: keys must be lists")
    return list(value)


def _name_of(kind: str, key: Any) -> str:
    if not isinstance(key, Mapping):
        raise SourceError("its SOPS metadata cannot be read: a key must be a mapping")
    name = "/".join(str(key.get(field, "")).strip("/") for field in SOPS_KEYS[kind][0])
    if kind == "kms" and (key.get("role") or key.get("aws_profile")):
        raise SourceError(
            "its SOPS metadata names an AWS role or profile; those come from the server only"
        )
    if _strays(name.replace("://", "/")):
        raise SourceError("its SOPS metadata names a key with '..' or a code for one")
    return name
