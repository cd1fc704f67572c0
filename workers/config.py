"""The worker's settings: worker-config.yaml and, over it, the environment. Every key has a default.

STROEM__WORKER__MAX_CONCURRENT=8 is `max_concurrent: 8`; STROEM__WORKER__DOCKER__HOST sets `host` in
`docker:`; commas separate list items. All problems are reported at once, each with its place.
"""

from __future__ import annotations

import re
import socket
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from engine.errors import StroemError
from engine.plain import plain, shorten
from engine.settings.declared import Key, fill
from engine.settings.given import Given, Reading, Section, Wrong, empty, override
from engine.settings.readers import number, text, token, web_address, words
from engine.spec.draft import Node
from engine.spec.problems import did_you_mean

PREFIX = "STROEM__WORKER__"
ABILITIES = ("script", "docker", "kubernetes", "agent")
MAX_SLOTS = 1000
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_WORKSPACE = re.compile(r"[A-Za-z0-9_*-]{1,100}")
_VARIABLE = re.compile(r"[A-Za-z0-9_*?]{1,200}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}")
_OF_A_NAME = "must consist of letters, digits and . _ - : / @, at most 200 of them"


class WorkerConfigError(StroemError):
    """One or more worker settings are wrong; one line each, with its place."""


def typed_name(text: str) -> str:
    """A worker's name on a command line."""
    if not _NAME.fullmatch(text):
        raise ArgumentTypeError(f"{_OF_A_NAME}, not '{text[:60]}'")
    return text


def _name(given: Given) -> str:
    name = text(given).strip()
    if not _NAME.fullmatch(name):
        raise Wrong(_OF_A_NAME)
    return name


def _size(given: Given) -> int:
    value = given.node.value
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = _SIZE.fullmatch(str(value).strip())
    if not found:
        raise Wrong(f"must be a size such as 16Gi or 16000M, not '{given.shown}'")
    amount, unit, binary = found.groups()
    return int(float(amount) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " "))


def _users(given: Given) -> tuple[str, ...]:
    if given.loose_text is None and isinstance(given.node.value, str):
        return (_name(given),)
    found = words(given, "names of system users, such as [step1, step2]")
    if not found or len(set(found)) < len(found) or not all(map(_NAME.fullmatch, found)):
        raise Wrong("must be one system user or a list of different ones, such as [step1, step2]")
    return found


def _octal(given: Given) -> int:
    typed = given.node.text or str(given.node.value)
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", typed) or int(typed.removeprefix("0o"), 8) > 0o777:
        raise Wrong(f"must be octal digits such as 0027, not '{given.shown}'")
    return int(typed.removeprefix("0o"), 8)


def _tags(given: Given) -> tuple[str, ...]:
    what = "names, such as [script, gpu]"
    found = words(given, what)
    if not all(_NAME.fullmatch(word) for word in found):
        raise Wrong(f"must be a list of {what}")
    if any("+" in word for word in found):
        raise Wrong("must not contain a plus sign: it joins the tags of a queue")
    return found


def _variables(given: Given) -> tuple[str, ...]:
    what = "names or patterns of variables, such as [LD_LIBRARY_PATH, OMP_*]"
    found = words(given, what)
    if not all(_VARIABLE.fullmatch(word) for word in found):
        raise Wrong(f"must be a list of {what}")
    return found


def _workspaces(given: Given) -> tuple[str, ...]:
    what = 'names of workspaces, * for any letters, such as [team-a, "infra-*"]'
    found = words(given, what)
    if not found:
        raise Wrong("must name at least one workspace; without the key, the worker serves all")
    if not all(_WORKSPACE.fullmatch(word) for word in found):
        raise Wrong(f"must be a list of {what}")
    return found


def _abilities(given: Given) -> tuple[str, ...]:
    found = _tags(given)
    for word in found:
        if word not in ABILITIES:
            raise Wrong(
                f"must be one of {', '.join(ABILITIES)}, not"
                f" '{shorten(word)}'{did_you_mean(word, ABILITIES)}"
            )
    return found


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).strip("-.") or "worker"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """In seconds and bytes. The runners read `docker` and `kubernetes`."""

    worker_name: Annotated[str, _name]
    workspace_cache_dir: Annotated[Path, Key("workspace_cache_dir", "workspace_dir")]
    tags: Annotated[tuple[str, ...], _tags] = ("script",)
    capabilities: Annotated[tuple[str, ...], _abilities] = ()  # the former name; added to `tags`
    workspaces: Annotated[tuple[str, ...], _workspaces] = ()  # that it serves; empty: all
    max_concurrent: Annotated[int, number(1, MAX_SLOTS, whole=True)] = 4
    # None: every second while there is work, every 5 s after 30 s without
    poll_interval_secs: Annotated[float | None, number(0.05, 3600)] = None
    drain_secs: Annotated[float, number(0, 86400)] = 30.0
    stop_grace_secs: Annotated[float, number(0, 7)] = 5.0
    # where pods fetch their workspace
    server_url: Annotated[str | None, web_address] = None
    worker_token: Annotated[str | None, token] = field(default=None, repr=False)
    runner_image: str | None = None
    docker: Annotated[Mapping[str, Any] | None, Section] = field(default=None, repr=False)
    kubernetes: Annotated[Mapping[str, Any] | None, Section] = field(default=None, repr=False)
    # system user of local steps; several: one for each step at a time
    run_as: Annotated[tuple[str, ...], _users] = ()
    run_actions_as: Annotated[str | None, _name] = None  # commands of workflow actions
    umask: Annotated[int | None, _octal] = None  # of local steps; None: the worker's own
    # variables of the worker that local steps and commands of workflow actions see too
    pass_env: Annotated[tuple[str, ...], _variables] = ()
    output_root: Path | None = None
    dependency_cache_dir: Path | None = None
    max_retained_revisions: Annotated[int, number(0, 10_000, whole=True)] = 2
    num_cpus: Annotated[float | None, number(0.001, 1e9)] = None
    memory: Annotated[int | None, _size] = None
    num_gpus: Annotated[int | None, number(0, 1e9, whole=True)] = None
    # in an allocation: how long before its end steps get TERM
    walltime_lead_secs: Annotated[float, number(5, 86400)] = 30.0
    # for workers on nodes, if their Slurm scheduler has no `worker_config`
    slurm_worker_config: Path | None = None

    @property
    def offers(self) -> dict[str, float | int]:
        """The resources that steps are packed into; empty when this worker only counts slots."""
        known = {"num_cpus": self.num_cpus, "memory_bytes": self.memory, "num_gpus": self.num_gpus}
        return {name: value for name, value in known.items() if value is not None}


def load(
    file: Path | None,
    environ: Mapping[str, str],
    *,
    data_dir: Path,
    has_docker: Callable[[], bool] = lambda: False,
) -> WorkerConfig:
    """The settings of this worker. Without file and tags it offers `script`, and `docker` if an
    engine answers. Raises WorkerConfigError with every problem."""
    base = file.resolve().parent if file else Path.cwd()
    reading = Reading(lambda path: (base / Path(path).expanduser()).resolve())
    root = _read_file(file, reading) if file else empty("environment")
    top = reading.given(override(root, environ, PREFIX))
    config = fill(
        WorkerConfig, top, worker_name=_host_name(), workspace_cache_dir=data_dir / "worker"
    )
    assert config is not None  # no key is required
    if not {"tags", "capabilities"} & reading.refused:
        config = _settle_tags(config, top, may_guess=file is None, has_docker=has_docker)
        reading.problems.extend(_mismatches(config, top, str(file or "environment")))
    if not {"run_as", "run_actions_as", "max_concurrent"} & reading.refused:
        config = _settle_users(config, top)
    if reading.problems:
        raise WorkerConfigError("\n".join(reading.problems))
    return config


def _settle_tags(
    config: WorkerConfig, top: Given, *, may_guess: bool, has_docker: Callable[[], bool]
) -> WorkerConfig:
    given = dict(top.entries())
    if not {"tags", "capabilities"} & given.keys():
        if may_guess and not {"docker", "kubernetes"} & given.keys() and has_docker():
            return replace(config, tags=("docker", "script"), docker={})
        return config
    named = "tags" in given and given["tags"].node.value is not None
    return replace(
        config, tags=tuple(sorted({*(config.tags if named else ()), *config.capabilities}))
    )


def _settle_users(config: WorkerConfig, top: Given) -> WorkerConfig:
    """Several users of steps: as many slots, and another user for the commands of actions."""
    count = len(config.run_as)
    if count < 2:
        return config
    place = top.at("run_as")
    if config.run_actions_as is None or config.run_actions_as in config.run_as:
        place.refuse(
            "run_as names a user for each slot; the commands of workflow actions need another one:"
            " name it in `run_actions_as`"
        )
    if "max_concurrent" not in dict(top.entries()):
        return replace(config, max_concurrent=count)
    if config.max_concurrent > count:
        place.refuse(
            f"run_as names {count} users, one for each slot, but max_concurrent is"
            f" {config.max_concurrent}"
        )
    return config


def _mismatches(config: WorkerConfig, top: Given, where: str) -> Iterator[str]:
    """Problems: tags without their section, sections without their tag, no tags at all."""
    for name, section in (("docker", config.docker), ("kubernetes", config.kubernetes)):
        if section is None and name in config.tags and name not in top.reading.refused:
            yield (
                f"{where}: the tag '{name}' needs a section `{name}:`;"
                f" an empty one is `{name}: {{}}`"
            )
        if section is not None and name not in config.tags:
            place = top.at(name).place
            yield f"{place}: the section `{name}:` needs the tag '{name}' in `tags`"
    if not config.tags:
        yield (
            f"{where}: tags must name at least one thing that this worker can do, for example"
            " `tags: [script]`"
        )


def _read_file(file: Path, reading: Reading) -> Node:
    """The section `worker:` if the file also has the platform's settings; else the whole file."""
    try:
        root = reading.parse(str(file), file.read_bytes())
    except OSError as error:
        reading.problems.append(
            f"{plain(file)}: the worker's settings cannot be read: {error.strerror}"
        )
        return empty(str(file))
    assert isinstance(root.value, dict)
    if not {"worker", "db", "broker"} & root.value.keys():
        return root
    own = root.value.get("worker") or empty(str(file))
    if isinstance(own.value, dict) or own.value is None:
        return own
    reading.problems.append(f"{own.place}: worker must be a mapping of settings")
    return empty(str(file))
