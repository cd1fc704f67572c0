"""Specifications out of short texts, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import dedent

from engine import spec
from engine.spec.model import Action, Loaded, Step, Task
from tests.engine.spec.builders import SPECS

SAME = SPECS / "torc" / "same"
BROKEN = SPECS / "torc" / "broken"
NOTATIONS = ("yaml", "json", "json5", "kdl")


@dataclass(frozen=True)
class Spec:
    """The one task of a specification."""

    task: Task
    actions: Mapping[str, Action]

    @property
    def names(self) -> list[str]:
        return list(self.task.flow)

    def step(self, name: str) -> Step:
        return self.task.flow[name]

    def action(self, name: str) -> Action:
        return self.actions[self.task.flow[name].action]

    def script(self, name: str) -> str:
        found = self.action(name).script
        assert found is not None
        return found

    def needs(self, name: str) -> set[str]:
        return set(self.task.flow[name].depends_on)


def load(text: str, file: str = "a.yaml") -> Loaded:
    return spec.load({file: dedent(text)})


def read(text: str, file: str = "a.yaml") -> Spec:
    loaded = load(text, file)
    assert loaded.workspace is not None, spec.report(loaded)
    (task,) = loaded.workspace.tasks.values()
    return Spec(task, loaded.workspace.actions)


def jobs(text: str, **top: str) -> Spec:
    """A specification of these jobs, each a line of YAML in braces."""
    return read(jobs_text(text, **top))


def jobs_text(text: str, **top: str) -> str:
    head = "".join(f"{key}: {value}\n" for key, value in top.items())
    lines = "".join(f"- {line.strip()}\n" for line in text.strip().splitlines())
    return f"name: x\n{head}jobs:\n{lines}"


def wrong(text: str, file: str = "a.yaml") -> list[str]:
    """`line: sentence` of every error."""
    return [f"{problem.place.line}: {problem.message}" for problem in load(text, file).errors]
