"""What stands in the way of a job: others of its task, so that it waits; or something that this
installation lacks, so that it is refused."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db import connection

from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.workspaces.revisions import definition_of
from engine.agents.servers import refusal, server_of
from engine.errors import AuthorError
from engine.lifecycle import OPEN_JOB
from engine.spec.model import Action, Task, Workspace
from engine.spec.problems import did_you_mean

# What must wait


def is_over_limit(
    task: Task,
    workspace_id: int,
    task_name: str,
    revision_id: int,
    parent_job_id: UUID | None = None,
) -> bool:
    """Whether another job of the task must wait. Takes a lock per task, so that two starts cannot
    both pass.

    Held and delayed jobs do not count. A job nested in a job of the same task, or of a task that
    its own may start, never waits: the outer jobs might wait for each other for ever.
    """
    most = most_jobs(task)
    if most is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{workspace_id}/{task_name}"]
        )
    open_jobs = Job.objects.filter(
        workspace_id=workspace_id, task_name=task_name, status__in=OPEN_JOB
    )
    running = open_jobs.filter(is_held=False, due_at=None).count()
    return running >= most and not _is_within(task_name, revision_id, parent_job_id)


def most_jobs(task: Task) -> int | None:
    """How many of its jobs may run at once."""
    is_serial = task.state is not None and task.state.on_conflict == "serialize"
    return 1 if is_serial else task.max_concurrent_jobs


def _is_within(task_name: str, revision_id: int, parent_job_id: UUID | None) -> bool:
    outer = set()
    while parent_job_id is not None:
        parent = (
            Job.objects.filter(id=parent_job_id).values_list("task_name", "parent_job_id").first()
        )
        if parent is None:
            break
        outer.add(parent[0])
        parent_job_id = parent[1]
    return bool(outer) and not outer.isdisjoint(
        {task_name, *_tasks_below(task_name, definition_of(revision_id))}
    )


def _tasks_below(task_name: str, workspace: Workspace) -> set[str]:
    """The tasks that its jobs may start, at any depth."""
    found: set[str] = set()
    waiting = [task_name]
    while waiting:
        task = workspace.tasks.get(waiting.pop())
        for step in task.flow.values() if task else ():
            action = workspace.actions.get(step.action)
            new = set(tasks_of(action)) - found if action else set()
            found |= new
            waiting += new
    return found


# What is refused


def refuse_what_cannot_run(plan: Plan, revision_id: int) -> None:
    """Raise AuthorError if a step of the task, or of a task that it starts at any depth, needs what
    this installation does not have. Starting a job that cannot finish is worse than refusing it."""
    below: dict[int, list[str]] = {}
    for name, node in plan.nodes.items():
        home = node.revision_of_action(revision_id)
        if node.action.type == "agent":
            lack = _lack_of(node.action, definition_of(home))
            if lack:
                raise AuthorError(f"step '{name}' {lack}")
        if called := tasks_of(node.action):
            below.setdefault(home, []).extend(called)
    for home, tasks in below.items():
        _refuse_below(tasks, definition_of(home))


def _refuse_below(tasks: list[str], workspace: Workspace) -> None:
    seen = set(tasks)
    for name in tasks:  # grows in the loop
        task = workspace.tasks.get(name)
        for step_name, step in task.flow.items() if task else ():
            action = workspace.actions.get(step.action)
            if action is None:
                continue  # from a library: starting the child reports it
            lack = _lack_of(action, workspace)
            if lack:
                raise AuthorError(
                    f"step '{step_name}' of task '{name}', which this task starts, {lack}"
                )
            for below in tasks_of(action):
                if below not in seen:
                    seen.add(below)
                    tasks.append(below)


def tasks_of(action: Action) -> list[str]:
    """The tasks that a step with this action may start."""
    called = [str(tool["task"]) for tool in action.tools if "task" in tool]
    return [action.task, *called] if action.task else called


def _lack_of(action: Action, workspace: Workspace) -> str | None:
    """Why no step with this action can run here; None if one can."""
    if action.type != "agent":
        return None
    providers = settings.STROEM.agents.providers
    if action.provider not in providers:
        there = ", ".join(sorted(providers)) or "none"
        hint = did_you_mean(action.provider or "", providers)
        return (
            f"needs the provider '{action.provider}' of language models, which this installation"
            f" does not have{hint}; `agents.providers` names {there}"
        )
    for name in (str(tool["mcp"]) for tool in action.tools if "mcp" in tool):
        given = workspace.mcp_servers.get(name)
        if given is None:
            return f"has the MCP server '{name}' as a tool, which the workspace does not have"
        why = refusal(server_of(name, given, {}), settings.STROEM.agents.mcp)
        if why is not None:
            return f"has the MCP server '{name}' as a tool, which {why}"
    return None
