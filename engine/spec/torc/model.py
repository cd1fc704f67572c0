"""A specification after reading, before and after the expansion of parameters: frozen values with
places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.spec.model import Place, WorkflowAction


@dataclass(frozen=True, slots=True)
class Axes:
    """What something is repeated over: parameter -> the text of its values."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    mode: str = "product"
    shared: tuple[str, ...] = ()  # `use_parameters`: names of the specification's own


@dataclass(frozen=True, slots=True)
class Job:
    """One job; the lists hold names of other things, the `_regexes` patterns over such names."""

    name: str
    command: str
    place: Place
    invocation_script: str | None = None
    cancel_on_blocking_job_failure: bool = True
    resource_requirements: str | None = None
    failure_handler: str | None = None
    scheduler: str | None = None
    depends_on: tuple[str, ...] = ()
    depends_on_regexes: tuple[str, ...] = ()
    input_files: tuple[str, ...] = ()
    input_file_regexes: tuple[str, ...] = ()
    output_files: tuple[str, ...] = ()
    output_file_regexes: tuple[str, ...] = ()
    input_user_data: tuple[str, ...] = ()
    input_user_data_regexes: tuple[str, ...] = ()
    output_user_data: tuple[str, ...] = ()
    output_user_data_regexes: tuple[str, ...] = ()
    axes: Axes = Axes()
    at: Mapping[str, Place] = field(default_factory=dict)  # key -> where it stands


@dataclass(frozen=True, slots=True)
class File:
    name: str
    path: str
    place: Place
    axes: Axes = Axes()


@dataclass(frozen=True, slots=True)
class UserData:
    name: str
    place: Place
    data: Any = None
    has_data: bool = False


@dataclass(frozen=True, slots=True)
class Requirements:
    name: str
    place: Place
    num_cpus: int = 1
    num_gpus: int = 0
    num_nodes: int = 1
    memory: int = 1024**2  # bytes
    runtime: str = "PT1H"


@dataclass(frozen=True, slots=True)
class Rule:
    """`max_retries` counts attempts, the first included, as Torc does."""

    exit_codes: tuple[int, ...]
    match_all: bool
    recovery_script: str | None
    max_retries: int


@dataclass(frozen=True, slots=True)
class Handler:
    name: str
    place: Place
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Specification:
    """One file. `options` holds what steers Torc's own runners."""

    name: str
    place: Place
    jobs: tuple[Job, ...]
    description: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    user_data: tuple[UserData, ...] = ()
    requirements: Mapping[str, Requirements] = field(default_factory=dict)
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    schedulers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    actions: tuple[WorkflowAction, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
