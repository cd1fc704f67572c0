"""Reads a YAML file and the environment into one tree of settings that know where they were
written.

A `Section` hands out what is asked for and refuses, when it is closed, what nobody asked for.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine import durations
from engine.errors import AuthorError

Problems = list[str]
MAX_DEPTH = 20


@dataclass(slots=True)
class Setting:
    """One value, its full name and its place: `server.yaml:3:5`, or the name of an environment
    variable."""

    name: str
    value: Any
    place: str
    problems: Problems
    is_text_only: bool = False  # out of the environment: numbers and lists arrive as text

    def refuse(self, sentence: str) -> None:
        self.problems.append(f"{self.place}: {sentence}")


@dataclass(slots=True)
class Section:
    """The settings under one key. Reading is by `take` and its typed sisters; `close` refuses the
    rest."""

    name: str
    place: str
    problems: Problems
    entries: dict[str, Setting | Section] = field(default_factory=dict)
    _asked: dict[str, None] = field(default_factory=dict)

    def refuse(self, sentence: str) -> None:
        self.problems.append(f"{self.place}: {sentence}")

    def refuse_key(self, key: str, sentence: str) -> None:
        self.problems.append(f"{self.entries[key].place}: {sentence}")

    def full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def take(self, key: str) -> Setting | None:
        """The plain value under `key`; None when it is absent or null."""
        self._asked[key] = None
        entry = self.entries.get(key)
        if isinstance(entry, Section):
            entry.refuse(f"{self.full(key)} must be a single value, not a mapping")
            entry.mark_read()
            return None
        return None if entry is None or entry.value is None else entry

    def has_section(self, key: str) -> bool:
        return isinstance(self.entries.get(key), Section)

    def section(self, key: str) -> Section:
        """The mapping under `key`; an empty one when it is absent."""
        self._asked[key] = None
        entry = self.entries.get(key)
        if isinstance(entry, Section):
            return entry
        if entry is not None and entry.value is not None:
            entry.refuse(f"{self.full(key)} must be a mapping")
        return Section(self.full(key), self.place, self.problems)

    def sections(self, key: str) -> Iterator[tuple[str, Section]]:
        """Every named mapping under `key`, for example each workspace."""
        parent = self.section(key)
        for name in list(parent.entries):
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
                parent.refuse_key(
                    name, f"'{name}' is no name: use letters, digits, dots, hyphens and underscores"
                )
            yield name, parent.section(name)

    def text(self, key: str) -> str | None:
        setting = self.take(key)
        if setting is None:
            return None
        if isinstance(setting.value, list):
            setting.refuse(f"{setting.name} must be a text")
            return None
        return str(setting.value)

    def path(self, key: str, base: Path) -> Path | None:
        """A path, made absolute: what the file says is relative to the file."""
        text = self.text(key)
        return (base / Path(text).expanduser()).resolve() if text else None

    def words(self, key: str) -> tuple[str, ...]:
        setting = self.take(key)
        if setting is None:
            return ()
        value = setting.value
        if isinstance(value, str) and setting.is_text_only:
            value = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            setting.refuse(f"{setting.name} must be a list of texts")
            return ()
        return tuple(value)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None) -> str | None:
        setting = self.take(key)
        if setting is None:
            if default is None:
                self.refuse(f"{self.full(key)} is missing: one of {', '.join(allowed)}")
            return default
        if setting.value not in allowed:
            known = (
                f"must be one of {', '.join(allowed)}"
                if allowed
                else "names nothing, since none is defined"
            )
            setting.refuse(
                f"{setting.name} {known}, not"
                f" '{setting.value}'{_did_you_mean(setting.value, allowed)}"
            )
            return default
        return str(setting.value)

    def number(self, key: str, default: float, *, at_least: float, whole: bool = False) -> float:
        found = self.optional_number(key, at_least=at_least, whole=whole)
        return default if found is None else found

    def optional_number(self, key: str, *, at_least: float, whole: bool = False) -> float | None:
        setting = self.take(key)
        if setting is None:
            return None
        value = setting.value
        if (
            isinstance(value, str)
            and setting.is_text_only
            and re.fullmatch(r"-?\d+(\.\d+)?", value)
        ):
            value = float(value)
        is_number = (
            isinstance(value, int | float) and not isinstance(value, bool) and value == value
        )
        if not is_number or (whole and value != int(value)):
            setting.refuse(
                f"{setting.name} must be a {'whole ' if whole else ''}number, not '{setting.value}'"
            )
            return None
        if value < at_least:
            setting.refuse(f"{setting.name} must be at least {at_least:g}")
            return None
        return float(value)

    def duration(self, key: str) -> float | None:
        """Seconds out of `90`, `90s` or `1h30m`."""
        setting = self.take(key)
        if setting is None:
            return None
        try:
            return durations.parse(setting.value).seconds
        except AuthorError as error:
            setting.refuse(f"{setting.name}: {error}")
            return None

    def mark_read(self) -> None:
        self._asked.update(dict.fromkeys(self.entries))

    def close(self) -> None:
        """Refuse every key that was never asked for."""
        for key, entry in self.entries.items():
            if key not in self._asked:
                hint = _did_you_mean(key, tuple(self._asked))
                self.problems.append(f"{entry.place}: unknown key '{self.full(key)}'{hint}")


def read_sources(
    file: Path | None, environ: Mapping[str, str], *, prefix: str, foreign: set[str]
) -> tuple[Section, Problems]:
    """The file's settings with the environment's over them. Sections in `foreign` belong to
    somebody else.

    Raises OSError or ValueError, in one sentence, when the file cannot be read at all.
    """
    problems: Problems = []
    top = _read_file(file, problems) if file else Section("", "environment", problems)
    for name in foreign:
        top.entries.pop(name, None)
    for variable in sorted(environ):
        parts = [part.lower() for part in variable.removeprefix(prefix).split("__")]
        if variable.startswith(prefix) and parts[0] not in foreign:
            _override(top, parts, variable, environ[variable])
    return top, problems


def _override(top: Section, parts: list[str], variable: str, text: str) -> None:
    here = top
    for part in parts[:-1]:
        entry = here.entries.get(part)
        if not isinstance(entry, Section):
            entry = here.entries[part] = Section(here.full(part), variable, top.problems)
        here = entry
    here.entries[parts[-1]] = Setting(
        here.full(parts[-1]), text, variable, top.problems, is_text_only=True
    )


def _read_file(file: Path, problems: Problems) -> Section:
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise ValueError(f"STROEM_CONFIG names {file}, which does not exist.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: the file is not UTF-8 text.") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ValueError(f"{file}{at}: this is not YAML: {error.problem}.") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError(
            f"{file}: this is not YAML: it holds control characters, or lies too deep."
        ) from None
    if node is None:
        return Section("", str(file), problems)
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"{file}:1:1: the file must hold a mapping of settings.")
    return _section("", node, file, problems, 0)


def _section(
    name: str, node: yaml.MappingNode, file: Path, problems: Problems, depth: int
) -> Section:
    section = Section(name, _place(file, node), problems)
    for key_node, value_node in node.value:
        key = str(key_node.value)
        place = _place(file, key_node)
        if depth > MAX_DEPTH:
            problems.append(f"{place}: '{key}' lies too deep.")
        elif key in section.entries:
            problems.append(f"{place}: '{section.full(key)}' is given twice.")
        elif isinstance(value_node, yaml.MappingNode):
            section.entries[key] = _section(
                section.full(key), value_node, file, problems, depth + 1
            )
            section.entries[key].place = place
        else:
            value = _plain(value_node)
            section.entries[key] = Setting(section.full(key), value, place, problems)
    return section


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [
            _plain(item) if isinstance(item, yaml.ScalarNode) else json.dumps(str(item.tag))
            for item in node.value
        ]
    if node.tag in {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:binary"}:
        return node.value
    constructor = yaml.constructor.SafeConstructor()
    return constructor.construct_object(node)


def _place(file: Path, node: yaml.Node) -> str:
    return f"{file}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _did_you_mean(given: Any, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(str(given), known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
