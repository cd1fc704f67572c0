"""The connections of the files and of the database as one: what a step gets for a name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.workspaces.errors import SecretError
from apps.workspaces.models import Connection
from apps.workspaces.references import rendered
from apps.workspaces.sealing import unseal
from engine.errors import InputError
from engine.spec.connection_types import Properties, fit

Types = Mapping[str, Properties]


@dataclass(frozen=True, slots=True)
class Stored:
    """What users of a connection of the database must be told. `trouble`: why it does not fit its
    type any more, which fails them; `dropped`: values that the type no longer declares."""

    version: int
    overrides: bool
    trouble: str = ""
    dropped: tuple[str, ...] = ()
    hidden: tuple[Any, ...] = field(default=(), repr=False)

    def note(self, name: str) -> str:
        """For the log of a step that uses it."""
        said = f"Connection '{name}' is the one stored in the database (version {self.version})"
        if self.overrides:
            said += "; it overrides the one of the files"
        if self.dropped:
            said += f"; without {listed(self.dropped)}, which its type no longer declares"
        return f"{said}."


@dataclass(frozen=True, slots=True)
class Held:
    """The values of a stored connection in clear, and which of them were secret when they were
    stored: a type that changes later uncovers none."""

    values: Mapping[str, Any] = field(repr=False)
    secret: frozenset[str]


NOTHING_HELD = Held({}, frozenset())


def held(sealed: bytes | memoryview) -> Held:
    content = unseal(sealed)
    return Held(content["values"], frozenset(content["secret"]))


def merge(
    rows: Sequence[Connection],
    of_files: Mapping[str, Any],
    types: Types,
    secrets: Mapping[str, Any],
) -> tuple[dict[str, dict[str, Any]], dict[str, Stored], list[dict[str, Any]]]:
    """The connections by name, those of the database among them, and what these replaced. Raises
    SecretError."""
    written: Mapping[str, Mapping[str, Any]] = of_files["connections"]
    names = {row.name for row in rows}
    found = rendered({name: each for name, each in written.items() if name not in names}, secrets)
    sealed_defaults = of_files.get("type_defaults", {})  # older revisions have none
    stored: dict[str, Stored] = {}
    for row in rows:
        values, stored[row.name] = _read(row, types, row.name in written)
        defaults = _plain_defaults(types.get(row.type, {})) | sealed_defaults.get(row.type, {})
        given = rendered({row.name: defaults}, secrets)[row.name]
        found[row.name] = {**given, **values, "type": row.type}
    return found, stored, _replaced(written, names, secrets)


def _plain_defaults(properties: Properties) -> dict[str, Any]:
    return {key: each["default"] for key, each in properties.items() if "default" in each}


def _read(row: Connection, types: Types, overrides: bool) -> tuple[dict[str, Any], Stored]:
    content = held(row.sealed)
    described = types.get(row.type, {})
    hidden = tuple(
        value
        for key, value in content.values.items()
        if key in content.secret or described.get(key, {}).get("secret")
    )
    values, dropped, trouble = fitted(row.type, types, content.values)
    return values, Stored(row.version, overrides, trouble, dropped, hidden)


def fitted(
    kind: str, types: Types, values: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...], str]:
    """The values as the type wants them today, the names of those that it no longer declares, and
    why it cannot be used."""
    if kind not in types:
        return {}, (), f"the files no longer have the type '{kind}'"
    dropped = tuple(sorted(values.keys() - types[kind].keys()))
    try:
        kept = {key: value for key, value in values.items() if key not in dropped}
        return fit(types[kind], kept), dropped, ""
    except InputError as error:
        return {}, dropped, "; ".join(error.problems.values())


def _replaced(
    written: Mapping[str, Mapping[str, Any]], names: Iterable[str], secrets: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What the files have under these names: it stays secret. What cannot be rendered hides
    nothing that its secrets do not."""
    found: list[dict[str, Any]] = []
    for name in names:
        try:
            found += rendered({name: written[name]}, secrets).values() if name in written else []
        except SecretError:
            continue
    return found


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
