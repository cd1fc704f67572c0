"""A blueprint in memory: the task that a job follows, its steps with their actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from engine import templating
from engine.resources import need_of
from engine.spec.model import Action, Hooks, JobEnds, Step, Task
from engine.spec.tags import required_tags, tag_set_key

SERVER_KINDS = frozenset({"task", "approval"})


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

    @property
    def kind(self) -> str:
        return self.action.type

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

    @cached_property
    def control_names(self) -> frozenset[str]:
        """Context names that decisions about the step read (`when`, `for_each`)."""
        texts = [text for text in (self.step.when, self.step.for_each) if isinstance(text, str)]
        return _names(texts)

    @cached_property
    def work_names(self) -> frozenset[str]:
        """Context names that rendering the step's order reads."""
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
        return _names(
            [*texts, action.manifest, action.message, action.prompt, action.system_prompt, *asked]
        )


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
    exported: JobEnds | None = None  # triggers of other workspaces may fire when its jobs end

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
    def roots(self) -> list[str]:
        return [name for name, node in self.nodes.items() if not node.step.depends_on]

    @cached_property
    def begins_plainly(self) -> bool:
        """Whether a job begins without a decision: its first steps just become ready."""
        roots = [self.nodes[name] for name in self.roots]
        return (
            self.task.max_concurrent_jobs is None
            and not self.task.workflow_actions
            and bool(roots)
            and all(
                node.step.when is None and node.step.for_each is None and not node.runs_on_server
                for node in roots
            )
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
