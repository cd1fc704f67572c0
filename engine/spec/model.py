"""The parsed workspace: frozen values, defaults filled in, durations in seconds.

Strings with templates stay unrendered. Every object from a file knows its place, so that later
messages can name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.agents.limits import Limits, TaskLimits
from engine.durations import Duration
from engine.plain import plain
from engine.scripts import Language

ActionType = Literal["script", "docker", "pod", "task", "agent", "approval"]
RunnerName = Literal["local", "docker", "pod"]
OnWorkerLost = Literal["fail", "retry"]
OnConflict = Literal["fail", "last_wins", "serialize"]
PullPolicy = Literal["missing", "always", "never"]
TriggerType = Literal["scheduler", "webhook", "event_source", "job"]


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file. `line` and `column` count from 1; 0 when only the file is known."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        file = plain(self.file)
        return f"{file}:{self.line}:{self.column}" if self.line else file


@dataclass(frozen=True, slots=True)
class Problem:
    """One error or warning in a workspace: `place: message`."""

    place: Place
    code: str
    message: str
    severity: Literal["error", "warning"] = "error"
    # the line of the file with a caret under the place; empty where it may hold a secret
    excerpt: str = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.place}: {self.severity}: {self.message}"


@dataclass(frozen=True, slots=True)
class InputField:
    """One declared input of a task, an action or an approval form."""

    type: str  # string text integer number boolean date datetime, or a connection type
    name: str | None = None
    description: str | None = None
    required: bool = False
    secret: bool = False
    default: Any = None
    has_default: bool = False
    options: tuple[str, ...] | None = None
    allow_custom: bool = False
    multiple: bool = False
    order: int | None = None
    position: int = 0  # in the file: stored definitions do not keep the order of keys


@dataclass(frozen=True, slots=True)
class OutputField:
    type: str
    description: str | None = None
    required: bool = False
    default: Any = None
    options: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class ExitRule:
    """Exit codes that allow another run, the maximum number of runs, and what to run before the
    next one."""

    exit_codes: tuple[int, ...] = ()
    match_all: bool = False
    max_attempts: int = 3
    recovery_script: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """`max_attempts` counts all runs, including the first. Exponential back-off doubles `delay_s`;
    jitter is +-25 %.

    With `rules` the exit code decides about another run (Torc's failure handlers).
    """

    max_attempts: int = 3
    delay_s: float = 30.0
    backoff: Literal["fixed", "exponential"] = "fixed"
    jitter: bool = False
    rules: tuple[ExitRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Escalation:
    """Additional approvers when there is no decision in time."""

    after: Duration
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """The smallest unit of execution. Fields not allowed for the action's type are None or
    empty."""

    type: ActionType
    title: str | None = None  # YAML key `name`
    description: str | None = None
    input: Mapping[str, InputField] = field(default_factory=dict)
    output: Mapping[str, OutputField] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: Duration | None = None
    retry: Retry | None = None
    on_worker_lost: OnWorkerLost | None = None
    workdir: str | None = None
    # cpu, memory, num_cpus, num_gpus, num_nodes, runtime
    resources: Mapping[str, Any] = field(default_factory=dict)
    # script
    script: str | None = None
    source: str | None = None
    runner: RunnerName = "local"
    language: Language | None = "shell"  # None: only the rendered `source` will tell
    dependencies: tuple[str, ...] = ()
    interpreter: str | None = None
    args: tuple[str, ...] = ()
    workspace: Literal["readonly", "copy"] = "readonly"
    umask: int | None = None
    # docker, pod
    image: str | None = None
    cmd: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    manifest: Mapping[str, Any] | None = None
    # containers, of scripts too
    shm_size: str | None = None
    user: str | None = None
    platform: str | None = None
    pull: PullPolicy | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)  # the operator's name -> path
    # task
    task: str | None = None
    # approval
    message: str | None = None
    approvers: Mapping[str, Any] = field(default_factory=dict)  # {users: [...], groups: [...]}
    min_approvals: int = 1
    separation: bool = False
    reminders: tuple[Duration, ...] = ()
    escalation: Escalation | None = None
    # agent
    provider: str | None = None
    model: str | None = None
    system_prompt: str | None = None
    prompt: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    max_turns: int | None = None
    interactive: bool = False
    # each {"task": name} or {"mcp": name}, perhaps with "approval" and "idempotent"
    tools: tuple[Mapping[str, Any], ...] = ()
    limits: Limits | None = None
    ask_timeout: Duration | None = None  # for people; without it they may take any time
    place: Place = Place()

    @property
    def image_words(self) -> tuple[str, ...]:
        """What an image is started with, in place of its own."""
        return (*(self.entrypoint or ()), *(self.command or ()))


@dataclass(frozen=True, slots=True)
class Artifacts:
    """What a step leaves beside its ARTIFACTS_DIR and for how long, and whose files it takes."""

    paths: tuple[str, ...] = ()  # globs below its working directory
    retain: Duration | None = None
    on_failure: bool = False  # also when it failed
    takes: tuple[str, ...] = ()  # YAML key `from`: steps before it


@dataclass(frozen=True, slots=True)
class Step:
    """One node of a flow. `action` names an entry of the workspace's actions, which include inline
    actions as `_inline:{task}:{step}`."""

    action: str
    title: str | None = None
    description: str | None = None
    depends_on: tuple[str, ...] = ()
    input: Mapping[str, Any] = field(default_factory=dict)
    when: str | None = None
    for_each: str | tuple[Any, ...] | None = None
    sequential: bool = False
    max_parallel: int | None = None
    continue_on_failure: bool = False
    timeout: Duration | None = None
    retry: Retry | None = None
    tags: tuple[str, ...] = ()
    on_worker_lost: OnWorkerLost | None = None
    scheduler: str | None = None  # a Slurm scheduler: only its allocations run the step
    # the required outcome of dependencies: any or all completed, or just ended
    join: Literal["any", "all", "done"] = "any"
    priority: int = 0
    umask: int | None = None
    artifacts: Artifacts | None = None
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Hook:
    """An action or a task that runs when a job ends."""

    action: str
    input: Mapping[str, Any] = field(default_factory=dict)
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Hooks:
    on_success: tuple[Hook, ...] = ()
    on_error: tuple[Hook, ...] = ()
    on_cancel: tuple[Hook, ...] = ()
    on_suspended: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowAction:
    """What runs on a life-cycle event of a job. `do` holds one or more items, run in order."""

    trigger_type: str
    # each {"action_type": ..., "commands": [...]} or schedule_nodes parameters
    do: tuple[Mapping[str, Any], ...]
    name: str | None = None
    jobs: tuple[str, ...] = ()
    job_name_regexes: tuple[str, ...] = ()
    match: Literal["full", "search"] = "full"
    persistent: bool = False
    barrier: bool = False
    needs: tuple[str, ...] = ()
    when: str | None = None
    retry: Retry | None = None
    timeout: Duration | None = None
    rerun: Literal["always", "affected", "never"] = "affected"
    on_failure: Literal["ignore", "fail_job"] = "ignore"
    # which workers run its commands; None: those on nodes, if the job has some then
    where: Literal["nodes", "any"] | None = None
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class StateRule:
    """How a task remembers. `on_conflict`: what becomes of a change to what another job has changed
    since the step saw it."""

    on_conflict: OnConflict = "fail"


@dataclass(frozen=True, slots=True)
class Kept:
    """Whom `access:` keeps a right to: it is taken from all others, and given to nobody."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A flow of steps; a job is one run of a task."""

    flow: Mapping[str, Step]
    title: str | None = None
    description: str | None = None
    folder: str | None = None
    mode: Literal["distributed", "local"] = "distributed"
    input: Mapping[str, InputField] = field(default_factory=dict)
    timeout: Duration | None = None
    retry: Retry | None = None
    hooks: Hooks = Hooks()
    priority: int = 0
    max_concurrent_jobs: int | None = None
    limits: TaskLimits | None = None  # of agents
    manual: bool = True  # False: only triggers, hooks and other tasks start it
    workflow_actions: tuple[WorkflowAction, ...] = ()
    slurm_schedulers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mcp: bool = False  # agents see it as a tool of its own
    state: StateRule | None = None
    access: Mapping[str, Kept] = field(default_factory=dict)  # by right
    source_format: Literal["stroem", "torc"] = "stroem"
    # only from Torc files: failure handlers, user data
    torc: Mapping[str, Any] = field(default_factory=dict)
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Trigger:
    type: TriggerType
    options: Mapping[str, Any]  # every other key, checked and with defaults; times in seconds
    enabled: bool = True
    input: Mapping[str, Any] = field(default_factory=dict)
    place: Place = Place()

    @property
    def starts(self) -> str:
        """The task whose jobs it starts."""
        return str(self.options.get("target_task") or self.options.get("task") or "")

    @property
    def watches(self) -> tuple[str, str] | None:
        """The workspace (empty: its own) and the task whose ends of jobs make it fire."""
        on_job = self.options.get("on_job")
        return (on_job.get("workspace") or "", on_job["task"] or "") if on_job else None


EVERYBODY = "*"


@dataclass(frozen=True, slots=True)
class Export:
    """Something for other workspaces (EVERYBODY: for every one)."""

    to: tuple[str, ...] = ()

    def reaches(self, workspace: str) -> bool:
        return workspace in self.to or EVERYBODY in self.to


@dataclass(frozen=True, slots=True)
class JobEnds(Export):
    """The workspaces whose triggers may fire when jobs of a task end."""

    output: bool = False  # they also see the output, and why a job failed
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class ExportedAction(Export):
    """The workspaces whose steps may use an action, with its files."""

    secrets: bool = False  # its templates also read the secrets and connections of the owner
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Exports:
    """What other workspaces may use of this one, by kind and name."""

    job_ends: Mapping[str, JobEnds] = field(default_factory=dict)
    actions: Mapping[str, ExportedAction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Library:
    """Where a library comes from: a git repository or a folder. `commit` and `tree`, the hash of
    its files, say what it is at a revision."""

    url: str = ""
    ref: str = ""
    path: str = ""
    commit: str = ""
    tree: str = ""
    place: Place = Place()

    @property
    def address(self) -> str:
        return self.url or self.path

    @property
    def is_complete(self) -> bool:
        """Whether it says where its files are, and nothing that contradicts it."""
        return bool(self.url) != bool(self.path) and not (self.path and self.ref)


@dataclass(frozen=True, slots=True)
class Keeping:
    """How long and how much of something a workspace keeps; None leaves it to the operator."""

    retain: Duration | None = None
    workspace_mb: int | None = None
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Workspace:
    """The contents of a workspace folder."""

    actions: Mapping[str, Action] = field(default_factory=dict)
    tasks: Mapping[str, Task] = field(default_factory=dict)
    triggers: Mapping[str, Trigger] = field(default_factory=dict)
    hooks: Hooks = Hooks()
    # plain text: never stored, never printed
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    connections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    connection_types: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    connection_checks: Mapping[str, str] = field(default_factory=dict)  # type -> action
    mcp_servers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    slurm_schedulers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # `settings:` e.g. {"unsafe_templates": "refuse"}
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: TaskLimits | None = None  # of the agents of all of its tasks
    logs: Keeping | None = None  # `settings.logs`
    artifacts: Keeping | None = None  # `settings.artifacts`
    mentions_state: bool = False  # a file of it uses directories of state
    mentions_artifacts: bool = False  # or the one of artifacts
    mentions_helper: bool = False  # or the command `stroem-step`
    exports: Exports = Exports()
    libraries: Mapping[str, Library] = field(default_factory=dict)
    # pattern of folders and tasks -> right -> whom it is kept to
    access: Mapping[str, Mapping[str, Kept]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of the loader: a workspace, unless `problems` has an error."""

    workspace: Workspace | None
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")
