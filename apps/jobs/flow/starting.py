"""Starts a job: what is refused, what must wait, and the first steps that may run.

Bells ring after the commit. `launch` is safe inside a transaction: hooks and a parent's advance
call it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, connection, transaction

from apps.audit.services import note
from apps.jobs import bells, ports
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints, creation
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.contexts import blanked, redact, seal_with
from apps.jobs.flow.creation import Birth, Origin
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions.moves import Candidate, JobState
from apps.workspaces.models import Revision
from apps.workspaces.secrets import secret_values, secrets_of, sensitive_of
from apps.workspaces.snapshots import definition_of
from engine import templating
from engine.agents.servers import refusal, server_of
from engine.errors import AuthorError, NotFound
from engine.lifecycle import OPEN_JOB, JobStatus
from engine.planner import Tally
from engine.spec.inputs import resolve, secret_fields
from engine.spec.model import Action, InputField, Task, Workspace
from engine.spec.problems import did_you_mean

MAX_DEPTH = 10
ROOTS = """
SELECT id, base, deps_completed, deps_failed, deps_skipped, tolerates FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND status = 'pending' AND deps_left = 0
    AND retry_at IS NULL AND loop_id IS NULL
    ORDER BY position
"""
ADMIT = """
UPDATE jobs_job SET is_held = false, due_at = NULL,
    deadline_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s
"""


def start_at(
    revision: Revision,
    task_name: str,
    given: Mapping[str, Any],
    origin: Origin,
    *,
    priority: int | None = None,
    wait_s: float | None = None,
    hidden: Iterable[str] = (),
) -> Job:
    """Start a task as defined in this revision. `hidden`: secret values that `given` may contain.
    Raises NotFound if the workspace is removed meanwhile."""
    try:
        blueprint_id = blueprints.of_task(revision.id, task_name)
        return launch(
            revision,
            task_name,
            blueprint_id,
            given,
            origin,
            priority=priority,
            wait_s=wait_s,
            hidden=hidden,
        )
    except (IntegrityError, ObjectDoesNotExist, KeyError) as error:
        if connection.in_atomic_block or Revision.objects.filter(pk=revision.pk).exists():
            raise
        raise NotFound(f"The workspace of task '{task_name}' was removed just now") from error


def launch(
    revision: Revision,
    task_name: str,
    blueprint_id: int,
    given: Mapping[str, Any],
    origin: Origin,
    *,
    priority: int | None = None,
    wait_s: float | None = None,
    allow_unknown: bool = False,
    hidden: Iterable[str] = (),
) -> Job:
    """Start a job from a blueprint. Safe inside a transaction: hooks and a parent's advance do
    this."""
    birth = prepare(
        revision, task_name, blueprint_id, given, origin, allow_unknown=allow_unknown, hidden=hidden
    )
    return create(replace(birth, priority=priority, wait_s=wait_s))


def prepare(
    revision: Revision,
    task_name: str,
    blueprint_id: int,
    given: Mapping[str, Any],
    origin: Origin,
    *,
    allow_unknown: bool = False,
    hidden: Iterable[str] = (),
) -> Birth:
    """What `launch` writes: refused here, if it is refused at all."""
    plan = blueprints.load(blueprint_id)
    refuse_what_cannot_run(plan, revision.id)
    secrets = secrets_of(revision)
    clear = resolve_input(plan.task.input, given, secrets, allow_unknown=allow_unknown)
    fields = secret_fields(plan.task.input)
    masks = secret_values(
        [sensitive_of(revision.id), [clear.get(name) for name in fields], list(hidden)]
    )
    seen = blanked(redact(clear, masks), fields)
    sealed = seal_with(clear, masks) if seen != clear else None
    return Birth(plan, task_name, revision.workspace_id, revision.id, origin, seen, sealed)


def resolve_input(
    fields: Mapping[str, InputField],
    given: Mapping[str, Any],
    secrets: Mapping[str, Any],
    *,
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """Checked input: the given values, then defaults (the author's text, rendered with secrets;
    data never is)."""
    wanted = {
        name: field.default
        for name, field in fields.items()
        if field.has_default and given.get(name) in (None, "")
    }
    defaults = templating.render_value(wanted, {"secret": secrets, "secrets": secrets})
    return resolve(fields, given, defaults, allow_unknown=allow_unknown)


@retried
def create(birth: Birth) -> Job:
    task, parent_id = birth.plan.task, birth.origin.parent_job_id
    if birth.wait_s is None and is_over_limit(
        task, birth.workspace_id, birth.task_name, birth.revision_id, parent_id
    ):
        birth = birth.held()
    job, roots = creation.write(birth)
    if where := birth.origin.noted_in:
        by = birth.origin.noted_by
        note("job.start", job.id, by=by, workspace=where, detail=_told(birth))
    if not job.is_held and job.due_at is None:
        begin(job, birth.plan, roots)
    return job


def _told(birth: Birth) -> str:
    again = birth.origin.rerun_of_id
    return f"task {birth.task_name}" + (f", as job {again}" if again else "")


def begin(job: Job, plan: Plan, roots: list[Candidate]) -> None:
    """Release the steps without dependencies, in the transaction that wrote or locked the job."""
    state = JobState(
        job.id,
        job.status,
        False,
        job.open_steps,
        job.bad_steps,
        plan.id,
        job.generation,
        job.has_actions,
    )
    if job.has_actions:
        ports.born(job, plan)
        roots = roots_of(job.id)  # a barrier blocks some of them
    advance = Advance(state, plan)
    advance.consider(roots)
    advance.run()
    bells.ring_after_commit(advance.bells)


@retried
def admit(job_id: UUID) -> None:
    """Begin a held or delayed job if it is due and its task has room."""
    job = Job.objects.select_for_update(no_key=True).get(id=job_id)
    if job.status != JobStatus.PENDING or not (job.is_held or job.due_at):
        return  # another process was faster
    plan = blueprints.load(job.blueprint_id)
    if is_over_limit(
        plan.task, job.workspace_id, job.task_name, job.revision_id, job.parent_job_id
    ):
        waiting = {"is_held": True, "due_at": None, "deadline_at": None}
        Job.objects.filter(id=job_id, is_held=False).update(**waiting)
        return
    fetch(ADMIT, (creation.time_out_s(plan), job_id))
    job.is_held, job.due_at = False, None
    begin(job, plan, roots_of(job_id))


def roots_of(job_id: UUID) -> list[Candidate]:
    """The pending steps without open dependencies, from the rows."""
    found = fetch(ROOTS, (job_id,))
    return [
        Candidate(id, base, Tally(ok, bad, none), tolerates)
        for id, base, ok, bad, none, tolerates in found
    ]


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


def on_end(job: Job, plan: Plan) -> None:
    """After a job whose task runs one at a time, begin the next one at once: no need to wait for
    the sweep."""
    if plan.is_serial:
        admit_next = partial(_admit_next, job.workspace_id, job.task_name)
        transaction.on_commit(admit_next, robust=True)


def _admit_next(workspace_id: int, task_name: str) -> None:
    held = Job.objects.filter(
        workspace_id=workspace_id,
        task_name=task_name,
        status=JobStatus.PENDING,
        is_held=True,
        cancel_requested_at=None,
    )
    first = held.order_by("-priority", "id").values_list("id", flat=True).first()
    if first is not None:
        admit(first)


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
