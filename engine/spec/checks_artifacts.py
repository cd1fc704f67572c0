"""Rules about what steps leave and take: `artifacts` of a step."""

from __future__ import annotations

from collections.abc import Iterator

from engine import dag, templating
from engine.plain import shorten
from engine.spec.checks_templates import is_template, not_rendered
from engine.spec.draft import Draft, step_subject
from engine.spec.model import Action, Artifacts, Problem
from engine.spec.problems import did_you_mean, error

_ON_SERVER = ("task", "agent", "approval")
_CODE = "artifacts"


def check_artifacts(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        needs = {name: step.depends_on for name, step in task.flow.items()}
        for name, step in task.flow.items():
            if step.artifacts is None:
                continue
            action = draft.workspace.actions.get(step.action)
            if action is not None:
                yield from _check_place(draft, task_name, name, action, step.artifacts)
            if step.artifacts.takes:
                before = dag.closure(needs, step.depends_on)
                for at, source in enumerate(step.artifacts.takes):
                    yield from _check_source(draft, (task_name, name), at, source, before)


def _check_place(
    draft: Draft, task: str, name: str, action: Action, kept: Artifacts
) -> Iterator[Problem]:
    subject = step_subject(task, name)
    if action.type in _ON_SERVER:
        message = (
            f"{subject} has 'artifacts' but its action is type '{action.type}' (steps of this type"
            " never reach a worker, and have no files)"
        )
        yield error(draft.in_step(task, name, "artifacts"), "forbidden-field", message)
    elif kept.paths and action.runner == "pod":
        message = (
            f"{subject} artifacts 'paths' do not work in a pod: let the script write to"
            " $ARTIFACTS_DIR"
        )
        yield error(draft.in_step(task, name, "artifacts", "paths"), _CODE, message)
    elif kept.paths and action.type != "script":
        message = (
            f"{subject} artifacts 'paths' are for scripts: an image leaves its files in"
            " $ARTIFACTS_DIR"
        )
        yield error(draft.in_step(task, name, "artifacts", "paths"), _CODE, message)
    elif kept.paths and action.runner != "local" and action.workspace == "readonly":
        message = (
            f"{subject} artifacts 'paths' need 'workspace: copy' in the action: with runner"
            f" '{action.runner}' the workspace is read-only; or write to $ARTIFACTS_DIR"
        )
        yield error(draft.in_step(task, name, "artifacts", "paths"), _CODE, message)


def _check_source(
    draft: Draft, reader: tuple[str, str], at: int, source: str, before: frozenset[str]
) -> Iterator[Problem]:
    flow = draft.workspace.tasks[reader[0]].flow
    subject, place = step_subject(*reader), draft.in_step(*reader, "artifacts", "from", at)
    shown = shorten(source)
    if source not in flow:
        if source not in draft.broken_steps.get(reader[0], ()):
            hint = did_you_mean(source, flow)
            message = f"{subject} takes artifacts from non-existent step '{shown}'{hint}"
            yield error(place, "missing-step", message)
        return
    if source not in before:
        message = (
            f"{subject} takes artifacts from step '{shown}', which does not run before it: add it"
            " to 'depends_on'"
        )
        yield error(place, _CODE, message)
    action = draft.workspace.actions.get(flow[source].action)
    if action is not None and action.type in _ON_SERVER:
        message = (
            f"{subject} takes artifacts from step '{shown}', whose action is type '{action.type}':"
            " steps of this type leave none"
        )
        yield error(place, _CODE, message)


def check_paths(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        steps = [templating.context_name(step) for step in task.flow]
        for name, step in task.flow.items():
            for at, text in enumerate(step.artifacts.paths if step.artifacts else ()):
                if is_template(text, steps):
                    subject = f"{step_subject(task_name, name)} artifacts path"
                    place = draft.in_step(task_name, name, "artifacts", "paths", at)
                    yield not_rendered(subject, text, place, "use a glob, such as '*'")


CHECKS = (check_artifacts, check_paths)
