"""Fires hooks exactly once, in the transaction that ends or suspends the job. A hook never changes
that job's status."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from apps.hooks.models import HookRun
from apps.jobs import ports, services
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.contexts import redact
from apps.jobs.flow.starting import Origin
from apps.jobs.models import Job, Step
from apps.jobs.plans import Plan
from apps.jobs.ports import Suspension
from apps.jobs.transitions.moves import say
from apps.workspaces.errors import SecretsPending
from apps.workspaces.models import Revision
from apps.workspaces.revisions import definition_of, secrets_of
from engine import templating
from engine.errors import StroemError
from engine.lifecycle import JobStatus, StepStatus
from engine.spec.model import Hook, Hooks, Task
from engine.spec.model import Step as FlowStep

log = logging.getLogger("stroem.hooks")
EVENTS = {
    JobStatus.COMPLETED: "on_success",
    JobStatus.FAILED: "on_error",
    JobStatus.CANCELLED: "on_cancel",
}
CLAIM_RUN = """
INSERT INTO hooks_hookrun (job_id, generation, event, index, step_id, fence, error, fired_at)
VALUES (%s, %s, %s, %s, %s, %s, '', clock_timestamp()) ON CONFLICT DO NOTHING RETURNING id,
    extract(epoch FROM fired_at)
"""


def on_end(job: Job, plan: Plan) -> None:
    """Fire the hooks of a job's end. A failed job that will be retried fires nothing yet."""
    if job.retry_job_id is not None:
        return
    if job.source_type == "hook" and job.status == JobStatus.FAILED:
        _tell_of_failure(job)
    event = EVENTS[JobStatus(job.status)]
    if event in plan.fallback_events and job.parent_job_id is not None:
        return  # workspace hooks fire for the parent, when it ends
    if getattr(plan.hooks, event):
        fire(job, plan, event, end_context(job))


def on_suspended(job: Job, plan: Plan, suspension: Suspension) -> None:
    """Fire `on_suspended` once per suspension of a step, per reminder, and for the escalation."""
    context = {
        **_common(job),
        "step_name": suspension.step_name,
        "message": suspension.message,
        "status": suspension.status,
        "started_at": _when(job.started_at or job.created_at),
        "url": suspension.url,
    }
    occasion = (
        "on_suspended"
        if suspension.status == StepStatus.SUSPENDED
        else f"{suspension.status} {suspension.number}"
    )
    fire(
        job, plan, "on_suspended", context, suspension.step_id, suspension.fence, occasion=occasion
    )


def on_removal(job_ids: Sequence[UUID]) -> None:
    """Forget which hooks these jobs fired."""
    HookRun.objects.filter(job_id__in=list(job_ids)).delete()


def fire(
    job: Job,
    plan: Plan,
    event: str,
    context: Mapping[str, Any],
    step_id: int = 0,
    fence: int = 0,
    *,
    occasion: str = "",
) -> None:
    """Start each hook of `event` once per generation of the job (and per suspension of a step, and
    occasion)."""
    hooks: tuple[Hook, ...] = getattr(plan.hooks, event)
    if not hooks or _comes_from_a_hook(job):
        return
    for index, hook in enumerate(hooks):
        with connection.cursor() as cursor:
            cursor.execute(
                CLAIM_RUN, [job.id, job.generation, occasion or event, index, step_id, fence]
            )
            row = cursor.fetchone()
        if row is not None:
            _start(HookRun(id=row[0]), float(row[1]), job, hook, f"{event}[{index}]", context)


def _tell_of_failure(hook_job: Job) -> None:
    """Log the failure in the job that fired the hook; nothing else changes there."""
    at = (hook_job.completed_at or hook_job.created_at).timestamp()
    say(
        UUID(hook_job.source_id),
        f"[hooks] Hook '{hook_job.task_name}' failed: {hook_job.error}",
        at=at,
    )


def _start(
    run: HookRun, at: float, job: Job, hook: Hook, label: str, context: Mapping[str, Any]
) -> None:
    try:
        with transaction.atomic():
            started = _start_job(job, hook, context)
    except SecretsPending:
        raise
    except StroemError as error:
        _note_failure(run, at, job, hook, label, str(redact(str(error), contexts.masks_of(job))))
    except DatabaseError:
        raise  # the transaction is lost; its owner retries
    except Exception as error:  # an outer edge: a broken hook must not keep its job from ending
        log.exception("hook %s of job %s could not be started", label, job.id)
        _note_failure(
            run, at, job, hook, label, f"the server failed ({type(error).__name__}); see its log"
        )
    else:
        HookRun.objects.filter(id=run.id).update(hook_job_id=started.id)


def _note_failure(run: HookRun, at: float, job: Job, hook: Hook, label: str, message: str) -> None:
    HookRun.objects.filter(id=run.id).update(error=message)
    say(job.id, f"[hooks] Failed to fire hook {label} for action '{hook.action}': {message}", at=at)


def _start_job(job: Job, hook: Hook, context: Mapping[str, Any]) -> Job:
    revision = Revision.objects.get(id=job.revision_id)
    workspace = definition_of(revision.pk)
    secrets = secrets_of(revision)
    values = templating.render_value(
        dict(hook.input), {"hook": context, "secret": secrets, "secrets": secrets}
    )
    origin = Origin("hook", str(job.id))
    action = blueprints.action_of(workspace, hook.action)
    if action.type == "task" and action.task is not None:
        return services.start_at(revision, action.task, values, origin)
    # A job of one step that passes on its input, which was rendered above and not once more.
    step = FlowStep(
        action=hook.action, input={name: f"{{{{ input[{json.dumps(name)}] }}}}" for name in values}
    )
    content = blueprints.body(Task(flow={"hook": step}), workspace, Hooks())
    blueprint_id = blueprints.store(content)
    return services.launch(
        revision, f"_hook:{hook.action}", blueprint_id, values, origin, allow_unknown=True
    )


def _comes_from_a_hook(job: Job) -> bool:
    """Hooks of hook jobs, or of jobs that they started, could go on forever."""
    seen: Job | None = job
    while seen is not None:
        if seen.source_type == "hook":
            return True
        origin_id = seen.parent_job_id or seen.retry_of_id
        seen = Job.objects.filter(id=origin_id).first() if origin_id else None
    return False


def _common(job: Job) -> dict[str, Any]:
    return {
        "workspace": job.workspace.name,
        "task_name": job.task_name,
        "job_id": str(job.id),
        "source_type": job.source_type,
        "source_id": job.source_id,
    }


def end_context(job: Job) -> dict[str, Any]:
    """`hook.*` at the end of a job, as docs/guides/hooks.md lists it."""
    started = job.started_at or job.created_at
    ended = job.completed_at or started
    return {
        **_common(job),
        "status": job.status,
        "is_success": job.status == JobStatus.COMPLETED,
        "error_message": job.error or None,
        "started_at": _when(started),
        "completed_at": _when(ended),
        "duration_secs": (ended - started).total_seconds(),
        "failed_steps": _failed_steps(job.id),
        "artifacts": [_file(file) for file in ports.files_of(job.id)],
        "url": f"{settings.BASE_URL}/admin/jobs/job/{job.id}/change/",
    }


def _failed_steps(job_id: UUID) -> list[dict[str, Any]]:
    plan = blueprints.load(Job.objects.values_list("blueprint_id", flat=True).get(id=job_id))
    failed = Step.objects.filter(job_id=job_id, status=StepStatus.FAILED, loop_id=None).order_by(
        "position"
    )
    return [
        {
            "step_name": step.name,
            "action_name": plan.nodes[step.base].step.action,
            "error_message": step.error,
            "continue_on_failure": step.tolerates,
        }
        for step in failed
    ]


def _file(file: ports.File) -> dict[str, Any]:
    return {
        "name": file.name,
        "content_type": file.content_type,
        "size_bytes": file.size_bytes,
        "step_name": file.step_name,
        "created_at": _when(file.created_at),
        "url": file.url,
    }


def _when(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")
