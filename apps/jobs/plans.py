"""A blueprint in memory: the task that a job follows, its steps with their actions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine import templating
from engine.resources import need_of
from engine.spec.model import Action, Hooks, JobEnds, Step, Task
from engine.spec.tags import required_tags, tag_set_key

SERVER_KINDS = frozenset({"task", "approval"})
STATES = frozenset({"state", "global_state"})  # names in templates
_MENTIONS_STATE = re.compile(r"\b(GLOBAL_)?STATE(:|_DIR\b|_OUT_DIR\b)")


@dataclass(frozen=True, slots=True)
class Abroad:
    """Whose an action is that belongs to another workspace, pinned when the job was started; or
    why its steps fail."""

    workspace: str = ""
    revision_id: int = 0
    digest: str = ""
    with_secrets: bool = False
    refusal: str = ""


@dataclass(frozen=True)
class Node:
    """One step of the flow, with its action."""

    name: str
    step: Step
    action: Action
    position: int
    dependents: tuple[str, ...]
    # has dependents, and all they need is that their dependencies are final
    leads_to_plain: bool = False
    abroad: Abroad | None = None
    is_plain: bool = False  # starts without a decision: no condition, no loop, on a worker

    def revision_of_action(self, own: int) -> int:
        """The revision that defines the action, its tools and the tasks that it calls."""
        return own if self.abroad is None else self.abroad.revision_id

    @property
    def runner(self) -> str:
        return self.action.runner if self.action.type == "script" else "none"

    @property
    def runs_on_server(self) -> bool:
        return self.action.type in SERVER_KINDS

    @cached_property
    def tag_set_key(self) -> str:
        need = need_of(
            self.action.resources,
            is_script=self.action.type == "script",
            is_allocated=self.step.scheduler is not None,
        )
        return tag_set_key((*required_tags(self.action, self.step), *need.words))

    @property
    def timeout_s(self) -> float | None:
        chosen = self.step.timeout or self.action.timeout
        return chosen.seconds if chosen else None

    @property
    def retry(self) -> Any:
        return self.step.retry or self.action.retry

    @property
    def shares_places(self) -> bool:
        """Whether it is a loop whose steps wait for one of a few places."""
        return self.step.max_parallel is not None and not self.step.sequential

    @property
    def mentions_state(self) -> bool:
        """Whether its code or its templates may be about state. Quick: it is asked of every step of
        a flow before the first one runs."""
        action = self.action
        texts = (action.script, action.cmd, *action.image_words, *action.args, *action.env.values())
        if any("STATE" in text and _MENTIONS_STATE.search(text) for text in texts if text):
            return True
        others = (action.source, action.image, action.prompt, action.system_prompt, action.message)
        given = (*texts, *others, str(self.step.input), str(action.manifest))
        if not any("state" in text and "{" in text for text in given if text):
            return False
        return bool(self.work_names & {*STATES, "*"})

    @property
    def _control_texts(self) -> list[Any]:
        return [text for text in (self.step.when, self.step.for_each) if isinstance(text, str)]

    @cached_property
    def control_names(self) -> frozenset[str]:
        """Context names that decisions about the step read (`when`, `for_each`)."""
        return _names(self._control_texts)

    @cached_property
    def work_names(self) -> frozenset[str]:
        """Context names that rendering the step's order reads."""
        return _names(self._work_texts)

    @cached_property
    def file_names(self) -> frozenset[str]:
        """Context names of the steps whose artifacts any of its templates reads."""
        return _names_before("artifacts", [*self._control_texts, *self._work_texts])

    @property
    def _work_texts(self) -> list[Any]:
        action = self.action
        texts = [
            self.step.input,
            action.env,
            action.script,
            action.source,
            action.args,
            action.cmd,
            action.image,
        ]
        asked = [
            text
            for declared in action.output.values()
            if action.type == "agent"
            for text in (declared.description, *(declared.options or ()))
        ]
        return [
            *texts, action.manifest, action.message, action.prompt, action.system_prompt, *asked
        ]  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A blueprint in memory."""

    id: int
    task: Task
    nodes: Mapping[str, Node]
    hooks: Hooks
    actions: Mapping[str, Action]
    fallback_events: frozenset[str] = frozenset()
    watched_by: tuple[str, ...] = ()  # triggers that fire when a job of the task ends
    emits: bool = False  # the consumer of an event source: its output is events
    mentions_state: bool = False  # a file of the workspace uses directories of state
    exported: JobEnds | None = None  # triggers of other workspaces may fire when its jobs end
    mentions_artifacts: bool = False  # a file of the workspace uses the directory of artifacts
    mentions_helper: bool = False  # or the command `stroem-step`

    @cached_property
    def strangers(self) -> list[Node]:
        """The steps with actions of other workspaces."""
        return [node for node in self.nodes.values() if node.abroad is not None]

    @property
    def is_watched(self) -> bool:
        return bool(self.watched_by) or self.exported is not None

    @cached_property
    def tag_set_keys(self) -> frozenset[str]:
        """Of steps that run on workers."""
        return frozenset(
            node.tag_set_key for node in self.nodes.values() if not node.runs_on_server
        )

    @cached_property
    def uses_state(self) -> bool:
        """Whether its steps read or write state, as far as the definition tells."""
        return (
            self.task.state is not None
            or self.mentions_state
            or any(node.mentions_state for node in self.nodes.values())
        )

    def reads_state(self, names: frozenset[str]) -> bool:
        """Whether templates that read these names may read state; a step may have its name."""
        return bool((names & STATES) - self.by_context_name.keys()) or "*" in names

    @property
    def is_serial(self) -> bool:
        """Whether its jobs run one after the other, because they share a state."""
        return self.task.state is not None and self.task.state.on_conflict == "serialize"

    @property
    def has_surroundings(self) -> bool:
        """Whether its steps find more around them than their workspace."""
        return self.task.source_format == "torc" or bool(self.task.workflow_actions)

    @property
    def is_limited(self) -> bool:
        """Whether a job may have to wait for others of its task."""
        return self.is_serial or self.task.max_concurrent_jobs is not None

    @cached_property
    def may_be_refused(self) -> bool:
        """Whether a step of it, or of a task that it starts, may need what an installation does
        not have."""
        actions = [node.action for node in self.nodes.values()]
        return any(one.type == "agent" or one.task or one.tools for one in actions)

    @cached_property
    def roots(self) -> list[str]:
        return [name for name, node in self.nodes.items() if not node.step.depends_on]

    @cached_property
    def begins_plainly(self) -> bool:
        """Whether a job begins without a decision: its first steps just become ready."""
        roots = [self.nodes[name] for name in self.roots]
        return (
            not self.is_limited
            and not self.task.workflow_actions
            and bool(roots)
            and all(node.is_plain for node in roots)
        )

    @cached_property
    def leaves(self) -> list[str]:
        return [name for name, node in self.nodes.items() if not node.dependents]

    @cached_property
    def by_context_name(self) -> dict[str, str]:
        return {templating.context_name(name): name for name in self.nodes}

    def steps_named(self, names: frozenset[str]) -> list[str]:
        """Flow names of the steps with these context names; `*` means all."""
        if "*" in names:
            return list(self.nodes)
        return [self.by_context_name[name] for name in names if name in self.by_context_name]


def _names(values: list[Any]) -> frozenset[str]:
    names: set[str] = set()
    for value in values:
        if isinstance(value, str):
            found = templating.references(value)
            names |= found.names | ({"*"} if found.is_open else set())
        elif isinstance(value, Mapping):
            names |= _names(list(value.values()))
        elif isinstance(value, list | tuple):
            names |= _names(list(value))
    return frozenset(names)


def _names_before(part: str, values: list[Any]) -> frozenset[str]:
    """The names whose `part` is read: `a` in `a.part`."""
    names: set[str] = set()
    for value in values:
        if isinstance(value, str) and part in value:
            paths = templating.references(value).paths
            names |= {path[0] for path in paths if path[1:2] == (part,)}
        elif isinstance(value, Mapping):
            names |= _names_before(part, list(value.values()))
        elif isinstance(value, list | tuple):
            names |= _names_before(part, list(value))
    return frozenset(names)
