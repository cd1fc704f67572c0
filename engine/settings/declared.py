"""Settings declared as dataclasses: a field is a setting, its type says which values are allowed.

`Annotated` adds what a type cannot express: the setting's key (`Key`), its own reader, or that it
cannot be set (`OURS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.errors import AuthorError
from engine.plain import shorten
from engine.settings.given import Given, Reading, Section, Wrong, as_node
from engine.settings.readers import Reader, choice, did_you_mean, flag, number, path, text, words
from engine.spec.model import Place

T = TypeVar("T")
OURS = "not a setting: the caller supplies it"


class Key:
    """A setting's key in files, its older names last."""

    def __init__(self, *names: str) -> None:
        self.names = names


def fill(kind: type[T], given: Given, **ours: Any) -> T | None:
    """The dataclass `kind` from a mapping, with `ours` as defaults.

    Records every problem, including that of `kind.find_objection`; None when the object cannot be
    built.
    """
    declared, wrong = _declared(kind), set()
    for key, entry in given.entries():
        if key not in declared:
            hint = did_you_mean(key, declared) or f"; expected one of {', '.join(declared)}"
            entry.refuse(f"unknown key '{shorten(entry.name)}'{hint}")
        elif entry.node.value is not None:
            attribute, reader = declared[key]
            try:
                ours[attribute] = reader(entry)
            except Wrong as problem:
                wrong.add(attribute)
                entry.tell(problem)
    needed = [
        one.name
        for one in fields(kind)  # type: ignore[arg-type]
        if one.default is MISSING and one.default_factory is MISSING
    ]
    if not (ours.keys() | wrong) >= set(needed):
        names = " and ".join(f"`{name}`" for name in needed)
        given.refuse(given.name + getattr(kind, "needs", f" needs {names}"))
    if not ours.keys() >= set(needed):
        return None
    made = kind(**ours)
    objection = None if wrong else getattr(made, "find_objection", lambda: None)()
    if objection:
        given.refuse(f"{given.name} {objection}")
    return made


def _declared(kind: Any) -> Mapping[str, tuple[str, Reader]]:
    """Key -> the field and the reader of its value."""
    declared = {}
    hints = get_type_hints(kind, include_extras=True)
    for name, hint in ((one.name, hints[one.name]) for one in fields(kind)):
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        if OURS not in extras:
            keys = next((extra.names for extra in extras if isinstance(extra, Key)), (name,))
            declared.update(dict.fromkeys(keys, (name, _reader(hint))))
    return declared


def _reader(hint: Any) -> Reader:
    """The reader for a type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        own: list[Reader] = [extra for extra in arguments[1:] if callable(extra)]
        return own[0] if own else _reader(arguments[0])
    if origin in {Union, UnionType}:
        return _reader(arguments[0])  # the other one is None
    if origin is Literal:
        return partial(choice, allowed=arguments)
    if origin is tuple:
        return words
    if origin is frozenset:
        return lambda given: frozenset(words(given))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return each(_reader(arguments[1]))
    if is_dataclass(hint):
        return section(hint)
    return _SIMPLE[hint]


def section(kind: Any) -> Reader:
    def reader(given: Given) -> Any:
        made = fill(kind, given)
        if made is None:
            raise Wrong
        return made

    return reader


def each(reader: Reader) -> Reader:
    """A mapping of names that the author chose."""

    def read_all(given: Given) -> dict[str, Any]:
        found = {}
        for key, entry in given.entries():
            try:
                found[key] = reader(entry)
            except Wrong as problem:
                entry.tell(problem)
        return found

    return read_all


_SIMPLE: Mapping[Any, Reader] = {
    str: text, Path: path, bool: flag, int: number(whole=True), float: number(),
}  # fmt: skip


def read_section(kind: type[T], section: Mapping[str, Any] | None, name: str, **ours: Any) -> T:
    """Read a section of plain values. Raises AuthorError with every problem."""
    if isinstance(section, Section):
        reading = Reading(section.given.reading.locate)
        given = replace(section.given, reading=reading)
    else:
        reading = Reading()
        given = Given(name, as_node(section or {}), Place(), reading)
    made = fill(kind, given, **ours)
    if made is None or reading.problems:
        raise AuthorError("\n".join(reading.problems))
    return made
