"""Starts a job: its row and its steps in one transaction, and the first steps that may run.

Bells ring after the commit. `launch` is safe inside a transaction: hooks and a parent's advance
call it there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from os import urandom
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ObjectDoesNotExist
from django.db import IntegrityError, connection

from apps.accounts.models import User
from apps.audit.services import note
from apps.fleet.reach import tag_set_ids
from apps.jobs import bells, ports
from apps.jobs.database.sql import fetch, fetch_one, jsonb, retried
from apps.jobs.flow import abroad, blueprints, obstacles
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.contexts import blanked, redact, seal_with
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Candidate, JobState
from apps.workspaces.models import Revision, Workspace
from apps.workspaces.revisions import definition_of, secret_values, secrets_of, sensitive_of
from engine import templating
from engine.errors import Conflict, NotFound
from engine.planner import Tally
from engine.spec.inputs import resolve, secret_fields
from engine.spec.model import InputField, Task

MAX_DEPTH = 10
TRIAL = "run"  # `manage.py run` tries a task out, on a database of its own
CONSUMER = "consumer"  # the source type of jobs whose output is events
NOW_AND_IDS = """
SELECT clock_timestamp(), array(
    SELECT nextval(pg_get_serial_sequence('jobs_step', 'id')) FROM generate_series(1, %s)
)
"""
INSERT_STEPS = """
INSERT INTO jobs_step (id, job_id, name, base, position, kind, runner, tag_set_id, dependents,
    deps_left, tolerates,
    priority, timeout_s)
SELECT x.id, %(job)s, x.name, x.name, x.position, x.kind, x.runner, x.tag_set, x.dependents, x.deps,
    x.tolerates,
    x.priority, x.timeout_s
FROM jsonb_to_recordset(%(rows)s) AS x(id bigint, name text, position int, kind text, runner text,
    tag_set smallint,
    dependents bigint[], deps int, tolerates boolean, priority smallint, timeout_s float)
"""
ROOTS = """
SELECT id, base, deps_completed, deps_failed, deps_skipped, tolerates FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND status = 'pending' AND deps_left = 0
    AND retry_at IS NULL AND loop_id IS NULL
    ORDER BY position
"""
NO_DEPENDENCIES = Tally(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who or what asked for the job."""

    type: str
    id: str = ""
    user_id: int | None = None
    parent_job_id: UUID | None = None
    parent_step_id: int | None = None
    parent_step_name: str = ""
    depth: int = 0
    rerun_of_id: UUID | None = None
    retry_of_id: UUID | None = None
    retry_attempt: int = 0
    scheduled_at: datetime | None = None
    noted_in: str = ""  # the workspace, of a start by hand, which the audit log hears of
    noted_by: str = ""  # who starts it, by e-mail


@dataclass(frozen=True, slots=True)
class Birth:
    """What to write. `clear` has the secret inputs, `shown` is what people may see."""

    plan: Plan
    task_name: str
    workspace_id: int
    revision_id: int
    origin: Origin
    shown: Mapping[str, Any]
    sealed: bytes | None = field(default=None, repr=False)
    priority: int | None = None
    is_held: bool = False
    wait_s: float | None = None

    def held(self) -> Birth:
        """The same, held by the task's concurrency limit."""
        return replace(self, is_held=True)


def start_job(
    workspace: str,
    task_name: str,
    given: Mapping[str, Any],
    *,
    source_type: str = "api",
    source_id: str = "",
    user: User | None = None,
    priority: int | None = None,
) -> Job:
    """Start a job of a task by hand, with checked input. Raises NotFound, InputError or Conflict
    before anything is written."""
    found = fetch_one(
        "SELECT id, current_id FROM workspaces_workspace WHERE name = %s", (workspace,)
    )
    if found is None or found[1] is None:
        raise _no_revision(workspace)
    revision = Revision(id=found[1], workspace_id=found[0])
    task = definition_of(revision.pk).tasks.get(task_name)
    if task is not None and not task.manual and source_id != TRIAL:
        raise Conflict(
            f"Task '{task_name}' is not started by hand (`manual: false`): its triggers, hooks and"
            " other tasks start it"
        )
    origin = Origin(
        source_type,
        source_id or (user.email if user else ""),
        user.pk if user else None,
        noted_in=workspace,
        noted_by=user.email if user else "",
    )
    return start_at(revision, task_name, given, origin, priority=priority)


def _no_revision(workspace: str) -> NotFound:
    found = Workspace.objects.filter(name=workspace).first()
    if found is None:
        return NotFound(f"Workspace '{workspace}' not found")
    problems = f": {len(found.problems)} problem(s), see `validate`" if found.problems else ""
    return NotFound(f"Workspace '{workspace}' has no usable revision{problems}")


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
    if plan.may_be_refused:
        obstacles.refuse_what_cannot_run(plan, revision.id)
    secrets = secrets_of(revision)
    clear = resolve_input(plan.task.input, given, secrets, allow_unknown=allow_unknown)
    fields = secret_fields(plan.task.input)
    masks, others = sensitive_of(revision.id), [*(clear.get(name) for name in fields), *hidden]
    if others:
        masks = secret_values([masks, others])
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
    if birth.wait_s is None and birth.plan.is_limited and _must_wait(birth):
        birth = birth.held()
    job, roots = write(birth)
    if where := birth.origin.noted_in:
        by = birth.origin.noted_by
        note("job.start", job.id, by=by, workspace=where, detail=_told(birth))
    if not job.is_held and job.due_at is None:
        begin(job, birth.plan, roots)
    return job


def _must_wait(birth: Birth) -> bool:
    return obstacles.is_over_limit(
        birth.plan.task,
        birth.workspace_id,
        birth.task_name,
        birth.revision_id,
        birth.origin.parent_job_id,
    )


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


def roots_of(job_id: UUID) -> list[Candidate]:
    """The pending steps without open dependencies, from the rows."""
    found = fetch(ROOTS, (job_id,))
    return [
        Candidate(id, base, Tally(ok, bad, none), tolerates)
        for id, base, ok, bad, none, tolerates in found
    ]


# Its rows


def write(birth: Birth) -> tuple[Job, list[Candidate]]:
    """Insert the job and its steps, all pending. Returns the job and the steps without
    dependencies."""
    plan = birth.plan
    now, found = now_and_ids(len(plan.nodes))
    job = job_of(birth, now)
    job.save(force_insert=True)
    ids = dict(zip(plan.nodes, found, strict=True))
    fetch(INSERT_STEPS, {"job": job.id, "rows": jsonb(steps_of(job, plan, ids))})
    if plan.strangers:
        rows.note_loans(job.id, abroad.told(plan))
    return job, [
        Candidate(ids[name], name, NO_DEPENDENCIES, node.step.continue_on_failure)
        for name, node in plan.nodes.items()
        if not node.step.depends_on
    ]


def job_of(birth: Birth, now: datetime) -> Job:
    plan, task = birth.plan, birth.plan.task
    timeout_s = None if birth.is_held else time_out_s(plan)  # `admit` gives a held one its time
    wait = timedelta(seconds=birth.wait_s or 0)
    return Job(
        id=uuid7(),
        workspace_id=birth.workspace_id,
        revision_id=birth.revision_id,
        blueprint_id=plan.id,
        task_name=birth.task_name,
        source_type=birth.origin.type,
        source_id=birth.origin.id,
        started_by_id=birth.origin.user_id,
        input=dict(birth.shown),
        input_sealed=birth.sealed,
        priority=task.priority if birth.priority is None else birth.priority,
        open_steps=len(plan.nodes),
        is_held=birth.is_held,
        has_actions=bool(task.workflow_actions),
        parent_job_id=birth.origin.parent_job_id,
        parent_step_id=birth.origin.parent_step_id,
        parent_step_name=birth.origin.parent_step_name,
        depth=birth.origin.depth,
        rerun_of_id=birth.origin.rerun_of_id,
        retry_of_id=birth.origin.retry_of_id,
        retry_attempt=birth.origin.retry_attempt,
        scheduled_at=birth.origin.scheduled_at,
        due_at=now + wait if wait else None,
        deadline_at=now + wait + timedelta(seconds=timeout_s) if timeout_s else None,
        created_at=now,
    )


def now_and_ids(count: int) -> tuple[datetime, list[int]]:
    """The database's time, and `count` reserved step ids."""
    ((now, ids),) = fetch(NOW_AND_IDS, (count,))
    return now, ids


def steps_of(job: Job, plan: Plan, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The rows of a job's steps, with the keys that INSERT_STEPS names."""
    sets = tag_set_ids(plan.tag_set_keys)
    default_s = None if plan.emits else settings.STROEM.default_step_timeout_s
    return [
        {
            "id": ids[name],
            "name": name,
            "position": node.position,
            "kind": node.action.type,
            "runner": node.runner,
            "tag_set": None if node.runs_on_server else sets[node.tag_set_key],
            "dependents": [ids[dependent] for dependent in node.dependents],
            "deps": len(node.step.depends_on),
            "tolerates": node.step.continue_on_failure,
            "priority": job.priority + node.step.priority,
            "timeout_s": node.timeout_s or (default_s if not node.runs_on_server else None),
        }
        for name, node in plan.nodes.items()
    ]


def time_out_s(plan: Plan) -> float | None:
    """How long a job may take from its start, without its waits for the start. A consumer has no
    end but those that its author gives it."""
    if plan.task.timeout:
        return plan.task.timeout.seconds
    return None if plan.emits else settings.STROEM.default_job_timeout_s


def time_limit_of(task: Task) -> str:
    """The same in words, as the author wrote it."""
    return task.timeout.text if task.timeout else f"{settings.STROEM.default_job_timeout_s or 0:g}s"


def uuid7() -> UUID:
    """A random id that sorts by time (RFC 9562), so that new rows sit together in the index."""
    value = (int(time.time() * 1000) << 80) | int.from_bytes(urandom(10), "big")
    value = value & ~(0xF << 76) | (7 << 76)
    return UUID(int=value & ~(3 << 62) | (2 << 62))
