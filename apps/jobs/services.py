"""What may be done to jobs. Every function opens its own transaction and says what it needs; bells
ring after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from apps.accounts.models import User
from apps.jobs import bells, ports
from apps.jobs.database.sql import fetch, fetch_one, retried
from apps.jobs.flow import blueprints, cancellation, contexts, creation
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.blueprints import Plan
from apps.jobs.flow.creation import Birth, Origin
from apps.jobs.flow.limits import is_over_limit
from apps.jobs.flow.redaction import blanked, seal_with, shown
from apps.jobs.flow.refusals import refuse_what_cannot_run
from apps.jobs.models import Job
from apps.jobs.transitions.moves import Candidate, JobState
from apps.workspaces.models import Revision, Workspace
from apps.workspaces.secrets import secret_values, secrets_of, sensitive_of
from engine import templating
from engine.errors import NotFound
from engine.lifecycle import JobStatus
from engine.planner import Tally
from engine.spec.inputs import resolve, secret_fields
from engine.spec.model import InputField

MAX_DEPTH = 10
ROOTS = """
SELECT id, base, deps_completed, deps_failed, deps_skipped, tolerates FROM jobs_step
WHERE job_id = %s AND status = 'pending' AND deps_left = 0 AND retry_at IS NULL AND loop_id IS NULL
    ORDER BY position
"""


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
    """Start a run of a task with checked input. Raises NotFound and InputError before anything is
    written."""
    found = fetch_one(
        "SELECT id, current_id FROM workspaces_workspace WHERE name = %s", (workspace,)
    )
    if found is None or found[1] is None:
        raise _no_revision(workspace)
    revision = Revision(id=found[1], workspace_id=found[0])
    origin = Origin(
        source_type, source_id or (user.email if user else ""), user.pk if user else None
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
    """Start a run of a task as this revision says it. `hidden` are secret values that `given` may
    hold."""
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
    """Start a run of a blueprint. Safe to call within a transaction: a hook or a parent's advance
    does."""
    plan = blueprints.load(blueprint_id)
    refuse_what_cannot_run(plan, revision.id)
    secrets = secrets_of(revision)
    clear = resolve_input(plan.task.input, given, secrets, allow_unknown=allow_unknown)
    fields = secret_fields(plan.task.input)
    masks = secret_values(
        [sensitive_of(revision.id), [clear.get(name) for name in fields], list(hidden)]
    )
    seen = blanked(shown(clear, masks), fields)
    sealed = seal_with(clear, masks) if seen != clear else None
    birth = Birth(
        plan,
        task_name,
        revision.workspace_id,
        revision.id,
        origin,
        seen,
        sealed,
        priority,
        wait_s=wait_s,
    )
    return _create(birth)


def resolve_input(
    fields: Mapping[str, InputField],
    given: Mapping[str, Any],
    secrets: Mapping[str, Any],
    *,
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """Checked input: what was given, then defaults (the author's text, rendered with secrets; data
    never is)."""
    wanted = {
        name: field.default
        for name, field in fields.items()
        if field.has_default and given.get(name) in (None, "")
    }
    defaults = templating.render_value(wanted, {"secret": secrets, "secrets": secrets})
    return resolve(fields, given, defaults, allow_unknown=allow_unknown)


@retried
def _create(birth: Birth) -> Job:
    task, parent_id = birth.plan.task, birth.origin.parent_job_id
    if birth.wait_s is None and is_over_limit(task, birth.workspace_id, birth.task_name, parent_id):
        birth = birth.held()
    job, roots = creation.write(birth)
    if not job.is_held and job.due_at is None:
        begin(job, birth.plan, roots)
    return job


def begin(job: Job, plan: Plan, roots: list[Candidate]) -> None:
    """Let the steps go that nothing holds back. Called in the transaction that has just written or
    locked the job."""
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
        roots = roots_of(job.id)  # a barrier holds some of them back
    advance = Advance(state, plan)
    advance.consider(roots)
    advance.run()
    bells.ring_after_commit(advance.bells)


@retried
def admit(job_id: UUID) -> None:
    """Begin a held or delayed job if its time has come and its task has room."""
    job = Job.objects.select_for_update(no_key=True).get(id=job_id)
    if job.status != JobStatus.PENDING or not (job.is_held or job.due_at):
        return  # somebody else was quicker
    plan = blueprints.load(job.blueprint_id)
    if is_over_limit(plan.task, job.workspace_id, job.task_name, job.parent_job_id):
        Job.objects.filter(id=job_id, is_held=False).update(is_held=True, due_at=None)
        return
    Job.objects.filter(id=job_id).update(is_held=False, due_at=None)
    job.is_held, job.due_at = False, None
    begin(job, plan, roots_of(job_id))


def roots_of(job_id: UUID) -> list[Candidate]:
    """The pending steps that nothing holds back, from the rows."""
    found = fetch(ROOTS, (job_id,))
    return [
        Candidate(id, base, Tally(ok, bad, none), tolerates)
        for id, base, ok, bad, none, tolerates in found
    ]


def cancel_job(job_id: UUID, *, actor: str, reason: str = "Job cancelled") -> None:
    """Ask a job and its children to stop. Raises NotFound, and Conflict when it has already
    ended."""
    cancellation.cancel(job_id, actor=actor, reason=reason)


def rerun_job(job_id: UUID, *, actor: User | None, given: Mapping[str, Any] | None = None) -> Job:
    """A new job of the same task at the current revision; the same input unless another is
    given."""
    old = Job.objects.select_related("workspace__current", "revision").filter(id=job_id).first()
    if old is None or old.workspace.current is None:
        raise NotFound(f"Job {job_id} not found")
    origin = Origin(
        "rerun", actor.email if actor else "", actor.pk if actor else None, rerun_of_id=old.id
    )
    values = contexts.clear_input(old) if given is None else given
    return start_at(
        old.workspace.current, old.task_name, values, origin, hidden=contexts.hidden_of(old)
    )
