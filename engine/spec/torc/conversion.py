"""Converts a Torc specification to a task with its actions, and jobs to scripts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from engine.spec.barriers import never_lifted
from engine.spec.checks_workflow_actions import stuck
from engine.spec.draft import Document, Problems, TooManyErrors
from engine.spec.model import Action, ExitRule, Place, Problem, Retry, Step, Task
from engine.spec.tags import bind
from engine.spec.torc.model import Handler, Job, Requirements, Specification, check
from engine.spec.torc.parameters import expand
from engine.spec.torc.reading import read_specification
from engine.spec.torc.references import Resolved, resolve

_TAG = re.compile(r"\{[{%#]")
_END_RAW = re.compile(r"\{%-?\s*endraw\s*-?%\}")


def literal(text: str) -> str:
    """`text` as a template that renders to exactly `text`: specifications hold no templates."""
    if not _TAG.search(text):
        return text
    if not _END_RAW.search(text):
        return f"{{% raw %}}{text}{{% endraw %}}"
    return re.sub(r"\{(?=[{%#])", "{% raw %}{{% endraw %}", text)


def script_of(
    name: str, command: str, invocation_script: str | None, outputs: Sequence[str]
) -> str:
    """The bash script of a job: its command after its invocation script, then a check for its
    output files."""
    line = f"{invocation_script} {command}" if invocation_script else command
    if not outputs:
        return line
    said = f"Job {name} completed successfully but expected output files are missing:"
    return "\n".join(
        (
            f"bash -c {shlex.quote(line)} || exit",
            "missing=",
            f"for file in {' '.join(shlex.quote(path) for path in outputs)}; do",
            '  [ -e "$file" ] || missing="$missing $file"',
            "done",
            f'[ -z "$missing" ] || {{ echo {shlex.quote(said)}"$missing" >&2; exit 1; }}',
        )
    )


@dataclass(frozen=True, slots=True)
class Converted:
    """The task (None on errors), its name, and the actions of its steps by name."""

    name: str
    place: Place
    task: Task | None
    actions: Mapping[str, Action] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def convert(file: str, document: Document) -> Converted:
    """The task for a specification's tree, and all its problems; never raises."""
    problems = Problems()
    name, place = file, Place(file, 1, 1)
    spec: Specification | None = None
    resolved = Resolved(())
    try:
        problems.extend(document.problems)
        if document.root is None:
            return Converted(name, place, None, {}, problems.in_order())
        spec = read_specification(document.root, file, problems)
        if spec is not None:
            name, place = _task_name(spec.name), spec.place
            spec = expand(spec, problems)
            resolved = resolve(spec, problems)
            problems.extend(check(spec, document.root))
    except TooManyErrors:
        pass  # already reported
    if spec is None or problems.has_errors:
        return Converted(name, place, None, {}, problems.in_order())
    task, actions = _build(spec, resolved, file)
    for index, needed in never_lifted(task):
        problems.add(stuck(f"actions[{index}]", task, index, needed))
    if problems.has_errors:
        return Converted(name, place, None, {}, problems.in_order())
    return Converted(name, place, task, actions, problems.in_order())


def _task_name(name: str) -> str:
    """The name made fit for a URL; the title keeps it unchanged."""
    return name.strip().replace("/", "-")[:200]


def _build(spec: Specification, resolved: Resolved, file: str) -> tuple[Task, dict[str, Action]]:
    paths = {known.name: known.path for known in spec.files}
    retries = {name: _retry(handler) for name, handler in spec.handlers.items()}
    folder = str(PurePosixPath(file).parent)
    actions: dict[str, Action] = {}
    flow: dict[str, Step] = {}
    for job in resolved.jobs:
        name = f"_inline:{_task_name(spec.name)}:{job.name}"
        needs = spec.requirements.get(job.resource_requirements or "")
        actions[name] = _action(job, paths, needs, folder)
        flow[job.name] = Step(
            action=name,
            depends_on=resolved.depends_on[job.name],
            retry=retries.get(job.failure_handler or ""),
            scheduler=job.scheduler,
            join=_join(job, resolved.depends_on[job.name]),
            place=job.place,
        )
    extra = {
        "file": file,
        "required_files": list(resolved.required_files),
        "options": dict(spec.options),
    }
    task = Task(
        flow=flow,
        title=spec.name,
        description=spec.description,
        workflow_actions=spec.actions,
        slurm_schedulers=spec.schedulers,
        source_format="torc",
        torc=extra,
        place=spec.place,
    )
    return bind(task), actions


def _join(job: Job, needs: Sequence[str]) -> Literal["any", "all", "done"]:
    """How dependencies must have ended. For a single one, any equals all and is cheaper to
    check."""
    if not job.cancel_on_blocking_job_failure:
        return "done"
    return "all" if len(needs) > 1 else "any"


def _action(job: Job, paths: Mapping[str, str], needs: Requirements | None, folder: str) -> Action:
    """`folder`: the file's folder in its workspace, where the step runs unless a host directory is
    given."""
    outputs = [paths[name] for name in job.output_files]
    return Action(
        type="script",
        script=literal(script_of(job.name, job.command, job.invocation_script, outputs)),
        resources=_resources(needs) if needs else {},
        workdir=None if folder == "." else folder,
        place=job.place,
    )


def _resources(needs: Requirements) -> dict[str, Any]:
    found: dict[str, Any] = {
        "num_cpus": needs.num_cpus,
        "memory": str(needs.memory),
        "runtime": needs.runtime,
    }
    if needs.num_gpus:
        found["num_gpus"] = needs.num_gpus
    if needs.num_nodes > 1:
        found["num_nodes"] = needs.num_nodes
    return found


def _retry(handler: Handler) -> Retry:
    rules = tuple(
        ExitRule(rule.exit_codes, rule.match_all, rule.max_retries, rule.recovery_script)
        for rule in handler.rules
    )
    most = max((rule.max_attempts for rule in rules), default=1)
    return Retry(max_attempts=max(1, most), delay_s=0.0, rules=rules)
