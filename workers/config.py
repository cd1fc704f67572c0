"""The worker's settings: worker-config.yaml, with the environment over it. Every key has a default.

STROEM__WORKER__MAX_CONCURRENT=8 is `max_concurrent: 8`; STROEM__WORKER__DOCKER__HOST reaches into a
section; lists are written with commas. What is wrong is said all at once, each with its place.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from engine.errors import StroemError
from engine.spec.draft import Node
from engine.spec.problems import did_you_mean, shorten
from engine.spec.reader import read

PREFIX = "STROEM__WORKER__"
ABILITIES = ("script", "docker", "kubernetes", "agent")
ALIASES = {"workspace_dir": "workspace_cache_dir"}
SECTIONS = ("docker", "kubernetes")
SECRET_LENGTH = 32
MAX_SLOTS = 1000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}")


class WorkerConfigError(StroemError):
    """One or more settings of a worker are wrong; one line each, with its place."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Seconds and bytes. `docker` and `kubernetes` are read by their runners."""

    worker_name: str
    workspace_cache_dir: Path
    tags: tuple[str, ...] = ("script",)
    max_concurrent: int = 4
    # None: every second while work comes, every 5 s after 30 s of nothing
    poll_interval_secs: float | None = None
    drain_secs: float = 30.0
    stop_grace_secs: float = 5.0
    server_url: str | None = None  # for what only HTTP can serve: pods fetch their workspace there
    worker_token: str | None = field(default=None, repr=False)
    runner_image: str | None = None
    docker: Mapping[str, Any] | None = field(default=None, repr=False)
    kubernetes: Mapping[str, Any] | None = field(default=None, repr=False)
    run_as: str | None = None  # system user of local steps
    output_root: Path | None = None
    dependency_cache_dir: Path | None = None
    max_retained_revisions: int = 2
    num_cpus: float | None = None
    memory: int | None = None
    num_gpus: int | None = None
    # what workers on nodes read, for schedulers that name no `worker_config`
    slurm_worker_config: Path | None = None

    @property
    def offers(self) -> dict[str, float | int]:
        """What steps that say what they need are packed into; empty when this worker counts slots
        only."""
        known = {"num_cpus": self.num_cpus, "memory_bytes": self.memory, "num_gpus": self.num_gpus}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Given:
    """One value and where it was written."""

    name: str
    value: Any
    place: str
    is_text: bool = False  # out of the environment


class _Wrong(Exception):
    """The rest of a sentence that begins with the setting's name."""


def load(
    file: Path | None,
    environ: Mapping[str, str],
    *,
    data_dir: Path,
    has_docker: Callable[[], bool] = lambda: False,
) -> WorkerConfig:
    """The settings of this worker. Without file and tags it offers `script`, and `docker` if an
    engine answers.

    Raises WorkerConfigError with every problem.
    """
    problems: list[str] = []
    given = _read_file(file, problems) if file else {}
    _read_environment(environ, given, problems)
    base = file.resolve().parent if file else Path.cwd()
    values: dict[str, Any] = {
        "worker_name": _host_name(),
        "workspace_cache_dir": data_dir / "worker",
    }
    for name, reader in _READERS.items():
        if (setting := given.get(name)) is None or setting.value is None:
            continue
        try:
            values[name] = reader(setting, base)
        except _Wrong as wrong:
            problems.append(f"{setting.place}: {name} {wrong}")
    if not any(name in given and name not in values for name in ("tags", "capabilities")):
        _add_tags(file, given, values, has_docker)
        problems += _mismatches(values, given, file)
    if problems:
        raise WorkerConfigError("\n".join(problems))
    values.pop("capabilities", None)
    return WorkerConfig(**values)


def _add_tags(
    file: Path | None,
    given: Mapping[str, _Given],
    values: dict[str, Any],
    has_docker: Callable[[], bool],
) -> None:
    tags = values.get("tags", ()) + values.get("capabilities", ())
    if not {"tags", "capabilities"} & given.keys():
        tags = ("script",)
        if file is None and not any(name in given for name in SECTIONS) and has_docker():
            tags, values["docker"] = ("script", "docker"), {}
    values["tags"] = tuple(sorted(set(tags)))


def _mismatches(
    values: Mapping[str, Any], given: Mapping[str, _Given], file: Path | None
) -> list[str]:
    """Sentences about tags without their section, and the reverse; and about having no tags at
    all."""
    where = str(file) if file else "environment"
    found = []
    for name in SECTIONS:
        if name in values["tags"] and values.get(name) is None and name not in given:
            found.append(
                f"{where}: the tag '{name}' needs a section `{name}:`; an empty one is `{name}:"
                " {}`"
            )
        if values.get(name) is not None and name not in values["tags"]:
            found.append(
                f"{given[name].place}: the section `{name}:` needs the tag '{name}' in `tags`"
            )
    if not values["tags"]:
        found.append(
            f"{where}: tags must name at least one thing this worker can do, for example `tags:"
            " [script]`"
        )
    return found


def _read_file(file: Path, problems: list[str]) -> dict[str, _Given]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        problems.append(f"{file}: the worker's settings cannot be read: {error.strerror}")
        return {}
    document = read(str(file), raw)
    problems.extend(f"{problem.place}: {problem.message}" for problem in document.problems)
    root = _own_section(document.root)
    if root is None or root.value is None:
        return {}
    if not isinstance(root.value, dict):
        problems.append(f"{root.place}: the file must hold a mapping of settings")
        return {}
    return _known(root, problems)


def _own_section(root: Node | None) -> Node | None:
    """The section `worker:` of a file that holds the platform's settings as well; else the whole
    file."""
    if (
        root is None
        or not isinstance(root.value, dict)
        or not {"worker", "db", "broker"} & root.value.keys()
    ):
        return root
    return root.value.get("worker")


def _known(root: Node, problems: list[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    assert isinstance(root.value, dict)
    for key, node in root.value.items():
        name = ALIASES.get(key, key)
        if name not in _READERS:
            place = root.keys.get(key, root.place)
            problems.append(f"{place}: unknown key '{shorten(key)}'{did_you_mean(key, _READERS)}")
            continue
        given[name] = _Given(name, node.plain(), str(node.place))
    return given


def _read_environment(
    environ: Mapping[str, str], given: dict[str, _Given], problems: list[str]
) -> None:
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        head, *rest = [part.lower() for part in variable.removeprefix(PREFIX).split("__")]
        name = ALIASES.get(head, head)
        if name not in _READERS or (rest and name not in SECTIONS):
            problems.append(
                f"{variable}: unknown key '{shorten(name)}'{did_you_mean(name, _READERS)}"
            )
        elif rest:
            given[name] = _Given(name, _within(given.get(name), rest, environ[variable]), variable)
        else:
            given[name] = _Given(name, environ[variable], variable, is_text=True)


def _within(before: _Given | None, path: list[str], text: str) -> dict[str, Any]:
    section = dict(before.value) if before and isinstance(before.value, Mapping) else {}
    here = section
    for part in path[:-1]:
        inner = here.get(part)
        here[part] = dict(inner) if isinstance(inner, Mapping) else {}
        here = here[part]
    try:
        here[path[-1]] = json.loads(text)
    except ValueError:
        here[path[-1]] = text
    return section


def _text(given: _Given, _: Path) -> str:
    if not isinstance(given.value, str) or not given.value.strip():
        raise _Wrong("must be a text")
    return given.value.strip()


def _name(given: _Given, base: Path) -> str:
    text = _text(given, base)
    if not _NAME.fullmatch(text):
        raise _Wrong("must consist of letters, digits and . _ - : / @, at most 200 of them")
    return text


def _token(given: _Given, base: Path) -> str:
    text = _text(given, base)
    if len(text) < SECRET_LENGTH:
        raise _Wrong(f"must be at least {SECRET_LENGTH} characters")
    return text


def _address(given: _Given, base: Path) -> str:
    text = _text(given, base)
    if not re.match(r"https?://[^/\s]+", text):
        raise _Wrong("must begin with http:// or https://")
    return text.rstrip("/")


def _path(given: _Given, base: Path) -> Path:
    return (base / Path(_text(given, base)).expanduser()).resolve()


def _number(
    at_least: float, whole: bool = False, at_most: float = 1e9
) -> Callable[[_Given, Path], Any]:
    def reader(given: _Given, _: Path) -> float | int:
        value = given.value
        if given.is_text and re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value):
            value = float(value)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or (whole and value != int(value))
        ):
            raise _Wrong(
                f"must be a {'whole ' if whole else ''}number, not '{shorten(given.value)}'"
            )
        if not at_least <= value <= at_most:
            raise _Wrong(f"must lie between {at_least:g} and {at_most:g}, not {value:g}")
        return int(value) if whole else float(value)

    return reader


def _size(given: _Given, _: Path) -> int:
    if isinstance(given.value, int) and not isinstance(given.value, bool) and given.value > 0:
        return given.value
    found = _SIZE.fullmatch(str(given.value).strip())
    if not found:
        raise _Wrong(f"must be a size such as 16Gi or 16000M, not '{shorten(given.value)}'")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " "))


def _words(given: _Given, _: Path) -> tuple[str, ...]:
    value = given.value
    if given.is_text:
        value = [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, list) or not all(
        isinstance(word, str) and _NAME.fullmatch(word) for word in value
    ):
        raise _Wrong("must be a list of names, such as [script, gpu]")
    if any("+" in word for word in value):
        raise _Wrong("must not hold a plus sign: it joins the tags of a queue")
    return tuple(value)


def _abilities(given: _Given, base: Path) -> tuple[str, ...]:
    words = _words(given, base)
    for word in words:
        if word not in ABILITIES:
            raise _Wrong(
                f"must be among {', '.join(ABILITIES)}, not"
                f" '{shorten(word)}'{did_you_mean(word, ABILITIES)}"
            )
    return words


def _section(given: _Given, _: Path) -> Mapping[str, Any]:
    value = given.value
    if given.is_text:
        try:
            value = json.loads(value)
        except ValueError:
            raise _Wrong("must be a mapping, written as JSON in the environment") from None
    if not isinstance(value, Mapping):
        raise _Wrong(f"must be a mapping; an empty one is `{given.name}: {{}}`")
    return value


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-.") or "worker"


_READERS: Mapping[str, Callable[[_Given, Path], Any]] = {
    "worker_name": _name,
    "workspace_cache_dir": _path,
    "tags": _words,
    "capabilities": _abilities,  # Strøm's newer word: added to `tags`
    "max_concurrent": _number(1, whole=True, at_most=MAX_SLOTS),
    "poll_interval_secs": _number(0.05, at_most=3600),
    "drain_secs": _number(0, at_most=86400),
    "stop_grace_secs": _number(0, at_most=7),
    "server_url": _address,
    "worker_token": _token,
    "runner_image": _text,
    "docker": _section,
    "kubernetes": _section,
    "run_as": _name,
    "output_root": _path,
    "dependency_cache_dir": _path,
    "max_retained_revisions": _number(0, whole=True, at_most=10_000),
    "num_cpus": _number(0.001),
    "memory": _size,
    "num_gpus": _number(0, whole=True),
    "slurm_worker_config": _path,
}
assert {entry.name for entry in fields(WorkerConfig)} | {"capabilities"} == set(_READERS)
