"""Which workers may run a step: by its tags, and whether only allocations may run it.

Only allocations run the steps that name a Slurm scheduler, and those for which a workflow action
requests nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from engine import dag
from engine.spec.model import Action, Step, Task, WorkflowAction
from engine.spec.slurm import select_steps

SLURM_PREFIX = "slurm:"
SUBMITS = "slurm"  # the tag of a worker that can call sbatch
ANY_SCHEDULER = "_any"  # in place of a scheduler's name: any allocation of the run
ACTIONS = (
    "@actions"  # in the tag sets of workflow actions: no author may write it, no worker has it
)
AGENTS = "@agents"  # the tag set of agent steps: only processes for agents offer it
_BY_RUNNER = {"local": "script", "docker": "docker", "pod": "kubernetes"}
_BY_TYPE = {"docker": "docker", "pod": "kubernetes"}


def required_tags(action: Action, step: Step | None = None) -> tuple[str, ...]:
    """The tags that a worker must have, sorted and unique; empty when the server runs the step
    itself."""
    if action.type in ("task", "approval"):
        return ()
    if action.type == "agent":
        return (AGENTS,)
    tags = {
        _BY_RUNNER[action.runner] if action.type == "script" else _BY_TYPE[action.type],
        *action.tags,
    }
    if step is not None:
        tags.update(step.tags)
        if step.scheduler:
            tags.add(SLURM_PREFIX + step.scheduler)
    return tuple(sorted(tags))


def tag_set_key(tags: Iterable[str]) -> str:
    """The name of a set of tags, independent of order: `docker+gpu`."""
    return "+".join(sorted(set(tags)))


def schedulers_of(action: WorkflowAction) -> tuple[str, ...]:
    """The Slurm schedulers from which the action requests nodes."""
    found = (
        doing.get("scheduler")
        for doing in action.do
        if doing.get("action_type") == "schedule_nodes"
    )
    return tuple(dict.fromkeys(name for name in found if name))


def chosen_schedulers(task: Task) -> dict[str, tuple[str, ...]]:
    """Step -> the schedulers of the on_jobs_ready actions that select it and request nodes."""
    found: dict[str, dict[str, None]] = {}
    for action in task.workflow_actions:
        if action.trigger_type == "on_jobs_ready":
            for scheduler in schedulers_of(action):
                for name in selected(action, task.flow):
                    found.setdefault(name, {})[scheduler] = None
    return {name: tuple(schedulers) for name, schedulers in found.items()}


def selected(action: WorkflowAction, flow: Mapping[str, Step]) -> Iterator[str]:
    """Steps of the flow that the action selects; an instance counts as its loop."""
    yield from select_steps(action, flow)
    yield from (
        job.partition("[")[0]
        for job in action.jobs
        if job not in flow and job.partition("[")[0] in flow
    )


def bind(task: Task) -> Task:
    """The task with `scheduler` set on every step that only allocations may run.

    A step's own `scheduler` takes precedence. Torc: a step without one may use any allocation of
    the run that can exist before the step.
    """
    if not any(schedulers_of(action) for action in task.workflow_actions):
        return task
    chosen = chosen_schedulers(task)
    early = _served_early(task) if task.source_format == "torc" else frozenset()
    flow = {}
    for name, step in task.flow.items():
        asked = chosen.get(name, ())
        if step.scheduler is not None:
            flow[name] = step
        elif len(asked) == 1:
            flow[name] = replace(step, scheduler=asked[0])
        elif asked or name in early:
            flow[name] = replace(step, scheduler=ANY_SCHEDULER)
        else:
            flow[name] = step
    return replace(task, flow=flow)


def _served_early(task: Task) -> frozenset[str]:
    """Steps that can have an allocation: an action requests nodes without waiting for the step
    itself."""
    graph = {name: step.depends_on for name, step in task.flow.items()}
    waiting: list[frozenset[str]] = []
    for action in task.workflow_actions:
        if not schedulers_of(action) or action.trigger_type in (
            "on_workflow_complete",
            "on_worker_complete",
        ):
            continue
        waiting.append(awaited(action, task.flow, graph))
    return frozenset(name for name in task.flow if any(name not in awaited for awaited in waiting))


def awaited(
    action: WorkflowAction, flow: Mapping[str, Step], graph: Mapping[str, Collection[str]]
) -> frozenset[str]:
    """Steps that must end before the action fires."""
    if action.trigger_type == "on_jobs_complete":
        return dag.closure(graph, selected(action, flow))
    if action.trigger_type == "on_jobs_ready":
        return dag.closure(
            graph, (needed for name in selected(action, flow) for needed in graph[name])
        )
    return frozenset()


def action_key(tags: Iterable[str]) -> str:
    """The tag set of a workflow action that takes a worker with these tags."""
    return tag_set_key((ACTIONS, *tags))


NODE = SLURM_PREFIX + ANY_SCHEDULER  # a tag of every worker on a node


def action_keys(tags: Iterable[str]) -> tuple[str, ...]:
    """The tag sets of all workflow actions that a worker with these tags can do."""
    of_nodes = (("script", tag) for tag in sorted(tags) if tag.startswith(SLURM_PREFIX))
    kinds = (("script",), (SUBMITS,), ("script", SUBMITS), *of_nodes)
    return tuple(action_key(kind) for kind in kinds if set(kind) <= set(tags))
