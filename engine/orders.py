"""The orders for a runner and its reports: frozen values between packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from engine.agents.limits import Limits as Budget
from engine.events import EventSink
from engine.scripts import Language

Stream = Literal["stdout", "stderr", "server"]
INPUT_FILE = "STROEM_INPUT_FILE"  # the path of the file with all inputs, or an input named `file`
ARTIFACTS_DIR, ARTIFACTS_IN = "ARTIFACTS_DIR", "ARTIFACTS_IN"
HELPER = "stroem-step"  # the command in the PATH of steps that call it
INPUTS_FILE = "STROEM_INPUTS_FILE"  # the path of the file with all inputs: no input has this name

# variable -> where containers have the directory
STATE_VARIABLES: Mapping[str, str] = {
    "STATE_DIR": "/state",
    "STATE_OUT_DIR": "/state-out",
    "GLOBAL_STATE_DIR": "/global-state",
    "GLOBAL_STATE_OUT_DIR": "/global-state-out",
}


@dataclass(frozen=True, slots=True)
class ScriptWork:
    """Run code of the workspace. Exactly one of `code` and `source` is set; `source` is relative to
    the workspace."""

    language: Language = "shell"
    code: str | None = None
    is_open: bool = False  # `code` holds no secrets: process lists may show it
    source: str | None = None
    args: tuple[str, ...] = ()
    interpreter: str | None = None
    # the program of the first line (`#!`), with options, that runs the file instead of ours
    program: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    # a private copy of the pinned revision on this host; None when it has no files
    workspace_dir: Path | None = None
    # containers: how /workspace is mounted
    workspace_mode: Literal["readonly", "copy"] = "readonly"
    runner_image: str | None = None  # containers: overrides the worker's runner image
    umask: int | None = None  # None: that of the worker or of the image

    def __post_init__(self) -> None:
        if (self.code is None) == (self.source is None):
            raise ValueError("script work needs exactly one of code and source")


@dataclass(frozen=True, slots=True)
class ImageWork:
    """Run a prepared image unchanged, without the workspace."""

    image: str
    cmd: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CommandsWork:
    """Run commands of a workflow action in order, until one fails."""

    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodesWork:
    """Request nodes from Slurm: those of item `part` of a workflow action that are still
    missing."""

    part: int


@dataclass(frozen=True, slots=True)
class AgentWork:
    """Hold a conversation with a model, within limits; its rows say how far it has come."""

    provider: str
    model: str | None
    system: str = field(repr=False)
    prompt: str = field(repr=False)
    limits: Budget
    schema: Mapping[str, Any] | None = None  # of a structured answer
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one attempt, in seconds and bytes."""

    timeout_s: float | None = None
    stop_grace_s: float = 5.0
    walltime_grace_s: float | None = None  # in place of it, when the allocation's time is over
    output_bytes: int = 1_000_000
    log_bytes: int = 50_000_000
    line_bytes: int = 16_384


@dataclass(frozen=True, slots=True)
class Resources:
    """The resource requests of a step; strings as written where an engine parses them itself."""

    cpu: str | None = None
    memory: str | None = None
    num_cpus: float | None = None
    memory_bytes: int | None = None
    num_gpus: int | None = None
    gpus: tuple[str, ...] = ()  # the host's names of those that are the attempt's own


@dataclass(frozen=True, slots=True)
class ContainerWishes:
    """What an author asks of the step's container, on an engine or in a pod; None and empty leave
    it to the worker."""

    shm_bytes: int | None = None  # the size of /dev/shm
    user: str | None = None  # user or user:group; numbers only for a pod
    platform: str | None = None  # linux/arm64
    pull: Literal["missing", "always", "never"] | None = None
    # a volume that the operator has named -> its absolute path in the container, perhaps with `:ro`
    volumes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pinned:
    """Where a pod downloads the job's workspace: a token good for one revision and one attempt."""

    url: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StateFolders:
    """Directories of this host: what a task and its workspace remember, and what a step leaves. The
    runner shows the first of each pair to the step, and fills the second with what it wrote."""

    task: tuple[Path, Path]
    workspace: tuple[Path, Path]

    @property
    def by_variable(self) -> Mapping[str, Path]:
        """The directory of each variable."""
        return dict(zip(STATE_VARIABLES, (*self.task, *self.workspace), strict=True))

    @property
    def environment(self) -> Mapping[str, str]:
        return {name: str(path) for name, path in self.by_variable.items()}


@dataclass(frozen=True, slots=True)
class Shelves:
    """Directories of this host for files that a step leaves, and takes from others. After its run,
    `left` holds what was in its ARTIFACTS_DIR, whatever it ran in; of a failed one only if that is
    wanted."""

    left: Path
    taken: Path | None = None  # ARTIFACTS_IN
    # containers: also what matches these globs below the working directory
    paths: tuple[str, ...] = ()
    on_failure: bool = False
    most_bytes: int = 0  # containers: that may come into `left`
    # pods: where they fetch and send files themselves; then nothing comes into `left`
    parcel: Pinned | None = None
    takes: bool = False
    # images in pods: tells the container that sends, by way of the server, how the image has ended
    tell_end: Callable[[int], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class HelperFolder:
    """A directory of this host with the command `stroem-step` and the pipes that it speaks through.
    `is_needed`: the step's own code calls it, so that the step cannot do without."""

    path: Path
    is_needed: bool = False


@dataclass(frozen=True, slots=True)
class StepOrder:
    """Everything a runner needs for one attempt of one step, without database ids."""

    # unique across all attempts of all steps, [a-z0-9-]{1,40}: names containers, pods, directories
    attempt: str
    job_id: str
    task_name: str
    step_name: str
    workspace: str
    number: int  # of this attempt, from 1
    work: ScriptWork | ImageWork
    # the attempt's own directory on this host, 0700; the caller removes it
    scratch_dir: Path
    # rendered `env` and STROEM_*; nothing else
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    # the step's input as JSON on this host; the step finds it by STROEM_INPUT_FILE
    input_path: Path | None = None
    limits: Limits = Limits()
    resources: Resources = Resources()
    container: ContainerWishes = ContainerWishes()
    workdir: str | None = None
    # a directory of this host, outside the workspace, in which the step runs (Torc files)
    chdir: Path | None = None
    manifest: Mapping[str, Any] | None = None
    pinned: Pinned | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)  # values to mask in lines
    run_as: str | None = None  # system user for local steps
    shelves: Shelves | None = None
    events: EventSink | None = None  # takes its OUTPUT: lines, of a consumer
    state: StateFolders | None = None  # of tasks that remember something
    helper: HelperFolder | None = None  # of steps that may call it


class Verdict(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"  # stopped by the stop signal
    TIMED_OUT = "timed_out"
    LOST = "lost"  # lost with the machine: not the author's fault


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The result of an attempt. A failing step is data; an exception from a runner is a bug."""

    verdict: Verdict
    exit_code: int | None = None
    # the message for the author, including exit code and tail of stderr
    error: str | None = None
    output: Any = None  # last valid OUTPUT: line
    has_output: bool = False
    # what its STATE: and GLOBAL_STATE: lines say, by prefix
    states: Mapping[str, Mapping[str, Any]] | None = field(default=None, repr=False)
    # by prefix: the version of the state that a key was written against
    bases: Mapping[str, Mapping[str, int]] | None = field(default=None, compare=False)
    may_retry: bool = True  # False if another attempt cannot help
    # of a lost one: whether its worker ended it because an operator had stopped the worker
    is_handed_back: bool = False
    # on the monotonic clock, when a process of this host ended by itself, before tidying up
    ended_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a step's log, without its newline. `at` is seconds since the epoch on the
    worker's clock."""

    at: float
    stream: Stream
    text: str
