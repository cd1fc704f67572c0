"""What a job would do, as far as it can be known before it runs. Runs nothing, resolves no secret.

A step's output is unknown until the step has run; what reads it is left open and says so. Every
step that runs is taken to complete: what follows a failure is another plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine import dag, templating
from engine.errors import InputError, TemplateError
from engine.masking import MASK
from engine.plain import shorten
from engine.planner import Promotion, Tally, promote
from engine.spec import inputs
from engine.spec.model import Action, InputField, Step, Task, Workspace
from engine.spec.tags import required_tags

_SECRETS = ("secret", "secrets")
# beside names of steps, which hold no space, in what a value needs
SECRET, ITEM, COMPUTED, STATE = "a secret", "the item", "a computed name", "the state"
_STATES = {"state", "global_state"}
_SAID = {
    STATE: "reads the state of that moment",
    SECRET: "reads a secret",
    ITEM: "differs with each item",
    COMPUTED: "reads a name that is itself computed",
}


class Outlook(StrEnum):
    """What becomes of a step. `open`: it is decided while the job runs."""

    RUNS = "runs"
    SKIPPED = "skipped"
    FAILS = "fails"
    OPEN = "open"


ELSEWHERE = "action of another workspace"  # in place of a type


@dataclass(frozen=True, slots=True)
class StepForecast:
    """`because`: why it is skipped or fails, or what decides it. `input`: rendered values, secrets
    masked; `unknown`: names of inputs -> what they need, see
    `whence`. `items`: of a loop, None
    where it is no loop or not yet known. `tags`: what a worker must offer; empty where the server
    runs the step. `image` is None where there is none, or not yet known."""

    name: str
    action: str
    type: str
    runner: str
    outlook: Outlook
    depends_on: tuple[str, ...] = ()
    because: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    unknown: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    is_loop: bool = False
    items: int | None = None
    tags: tuple[str, ...] = ()
    image: str | None = None
    calls: str | None = None  # the task that it starts


def forecast(
    workspace: Workspace, task_name: str, given: Mapping[str, Any]
) -> tuple[StepForecast, ...]:
    """The steps of a task in an order in which they may run. Raises InputError for input that the
    task refuses."""
    task = workspace.tasks[task_name]
    seer = _Seer(workspace, task, _checked(task.input, given))
    order = dag.topological_order({name: step.depends_on for name, step in task.flow.items()})
    return tuple(seer.look_at(name, task.flow[name]) for name in order)


def _checked(fields: Mapping[str, InputField], given: Mapping[str, Any]) -> dict[str, Any]:
    """The job's input, with secret fields and what comes from secrets masked."""
    wanted = {
        name: declared.default
        for name, declared in fields.items()
        if declared.has_default and given.get(name) in (None, "")
    }
    masked = {name for name, default in wanted.items() if _reads(default) & {*_SECRETS}}
    plain = {name: text for name, text in wanted.items() if name not in masked}
    found = inputs.resolve(
        {name: declared for name, declared in fields.items() if name not in masked},
        {name: value for name, value in given.items() if name not in masked},
        templating.render_value(plain, {}),
    )
    hidden = {name for name in found if name in inputs.secret_fields(fields)} | masked
    return found | dict.fromkeys(hidden, MASK)


def _reads(value: Any, hidden: Collection[str] = ()) -> set[str]:
    """The root names that the templates in an author's value read; `*` if that cannot be told. An
    input that is `hidden` counts as a secret."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            references = templating.references(one)
            found |= {*references.names, *(("*",) if references.is_open else ())}
            inputs_read = [path for path in references.paths if path[0] == "input"]
            if hidden and any(len(path) == 1 or path[1] in hidden for path in inputs_read):
                found.add(_SECRETS[0])
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return found


class _Seer:
    """Looks at one step after the other, each after its dependencies."""

    def __init__(self, workspace: Workspace, task: Task, job_input: Mapping[str, Any]) -> None:
        self._workspace = workspace
        self._input = job_input
        self._hidden = frozenset(name for name, value in job_input.items() if value == MASK)
        self._names = {templating.context_name(name): name for name in task.flow}
        # only skipped steps are ever read here: their output is null
        self._context = {name: {"output": None} for name in self._names} | {
            "input": dict(job_input)
        }
        self._outlooks: dict[str, Outlook] = {}

    def look_at(self, name: str, step: Step) -> StepForecast:
        action = self._workspace.actions.get(step.action, Action("task"))
        is_elsewhere = step.action not in self._workspace.actions
        outlook, because = self._decide(step)
        if is_elsewhere and outlook is Outlook.RUNS:
            outlook = Outlook.OPEN
            because = (
                "whether another workspace lets it use its action is asked when the job starts"
            )
        is_open = outlook in (Outlook.RUNS, Outlook.OPEN)
        items: int | None = None
        values: dict[str, Any] = {}
        unknown: dict[str, tuple[str, ...]] = {}
        try:
            if is_open and step.for_each is not None:
                items = self._count(step.for_each)
                if items == 0:
                    outlook, because = Outlook.SKIPPED, "its list is empty"
                elif items is None and outlook is Outlook.RUNS:
                    outlook = Outlook.OPEN
                    because = f"for_each: {whence(self._needed(step.for_each))}"
            if outlook is not Outlook.SKIPPED and is_open:
                values, unknown = self._render(step, action)
        except (TemplateError, InputError) as error:
            outlook, because = Outlook.FAILS, str(error)
        self._outlooks[name] = outlook
        return StepForecast(
            name=name,
            action=step.action,
            type=ELSEWHERE if is_elsewhere else action.type,
            runner=action.runner if action.type == "script" else action.type,
            outlook=outlook,
            depends_on=step.depends_on,
            because=because,
            input=values,
            unknown=unknown,
            is_loop=step.for_each is not None,
            items=items,
            tags=() if is_elsewhere else required_tags(action, step),
            image=action.image if action.image and not _reads(action.image) else None,
            calls=action.task,
        )

    def _decide(self, step: Step) -> tuple[Outlook, str]:
        """By its dependencies, then by its condition."""
        ends = {name: self._outlooks[name] for name in step.depends_on if name in self._outlooks}
        undecided = [name for name, outlook in ends.items() if outlook is Outlook.OPEN]
        failed = [name for name, outlook in ends.items() if outlook is Outlook.FAILS]
        skipped = sum(outlook is Outlook.SKIPPED for outlook in ends.values())
        completed = len(ends) - skipped - len(undecided) - len(failed)
        # undecided ones either all run or are all skipped: what lies between changes nothing
        found = {
            promote(
                Tally(completed + run, len(failed), skipped + len(undecided) - run),
                tolerates=step.continue_on_failure,
                join=step.join,
            )
            for run in (0, len(undecided))
        }
        if found == {Promotion.SKIP}:
            if failed:
                return Outlook.SKIPPED, f"{_listed(failed)} would fail"
            return Outlook.SKIPPED, "what it depends on is skipped"
        outlook, because = self._weigh(step)
        if outlook is Outlook.RUNS and len(found) > 1:
            return Outlook.OPEN, _only_if(undecided)
        return outlook, because

    def _weigh(self, step: Step) -> tuple[Outlook, str]:
        if step.when is None:
            return Outlook.RUNS, ""
        needed = self._needed(step.when)
        if needed:
            return Outlook.OPEN, f"when: {whence(needed)}"
        try:
            is_true = templating.is_true(step.when, self._context)
        except TemplateError as error:
            return Outlook.FAILS, f"when condition error: {error}"
        shown = f"when: {shorten(step.when.strip(), 60)}"
        return (Outlook.RUNS, shown) if is_true else (Outlook.SKIPPED, f"{shown} is false")

    def _count(self, source: str | tuple[Any, ...]) -> int | None:
        """How many items the loop has; None if that is not known yet."""
        if self._needed(source):
            return len(source) if isinstance(source, tuple) else None
        return len(templating.items(source, self._context))

    def _render(
        self, step: Step, action: Action
    ) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """The step's own input as far as it is known, and what the rest needs."""
        values: dict[str, Any] = {}
        unknown: dict[str, tuple[str, ...]] = {}
        for name, text in step.input.items():
            needed = self._needed(text)
            if not needed:
                values[name] = templating.render_value(text, self._context)
            elif needed == (SECRET,):
                values[name] = MASK
            else:
                unknown[name] = needed
        for name, declared in action.input.items():
            if name in values or name in unknown:
                continue
            if self._input.get(name) is not None:
                values[name] = self._input[name]
            elif declared.has_default and not self._needed(declared.default):
                values[name] = templating.render_value(declared.default, self._context)
        hidden = inputs.secret_fields(action.input)
        return {name: MASK if name in hidden else value for name, value in values.items()}, unknown

    def _needed(self, value: Any) -> tuple[str, ...]:
        """What a value needs that is not known: secrets, the item of a loop, outputs of steps."""
        found = _reads(value, self._hidden)
        if "*" in found:
            return (COMPUTED,)
        secret = [SECRET] if found & {*_SECRETS} else []
        each = [ITEM] if "each" in found else []
        state = [STATE] if (found & _STATES) - self._names.keys() else []
        steps = [self._names[name] for name in sorted(found & self._names.keys())]
        steps = [name for name in steps if self._outlooks.get(name) is not Outlook.SKIPPED]
        return (*secret, *each, *state, *steps)


def whence(needed: Iterable[str]) -> str:
    """When a value will be known, for people."""
    steps = [name for name in needed if name not in _SAID]
    said = [_SAID[name] for name in needed if name in _SAID]
    if steps:
        has = "has" if len(steps) == 1 else "have"
        said.append(f"known when {_listed(steps)} {has} run")
    return ", ".join(said)


def _only_if(undecided: Sequence[str]) -> str:
    if len(undecided) == 1:
        return f"only if '{undecided[0]}' runs"
    return f"only if one of {_listed(undecided)} runs"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
