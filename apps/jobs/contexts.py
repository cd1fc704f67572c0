"""What templates may see: plain JSON, with secret values in clear. Never logged, never stored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from apps.jobs.blueprints import Node, Plan
from apps.jobs.models import Job
from apps.jobs.sql import fetch
from apps.workspaces.sealing import seal, unseal
from apps.workspaces.secrets import secret_values, secrets_of, sensitive_of
from engine.inputs import secret_fields
from engine.templating import context_name

OUTPUTS = """
SELECT name, status, output::text, output_sealed, error FROM jobs_step
WHERE job_id = %s AND name = ANY(%s) AND loop_id IS NULL
    AND status IN ('completed', 'failed', 'skipped', 'cancelled', 'suspended')
"""


def clear_input(job: Job) -> dict[str, Any]:
    """The job's input with its secret values."""
    return unseal(job.input_sealed) if job.input_sealed is not None else job.input


def outputs_of(job_id: UUID, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Entries of settled steps by context name: {"output": ...}, with "error" behind a failure.

    Source: spec 1.10 'Step entries'; skipped, cancelled and suspended ones are there with a null output.
    """
    wanted = list(names)
    if not wanted:
        return {}
    entries: dict[str, dict[str, Any]] = {}
    for name, status, output, sealed, error in fetch(OUTPUTS, (job_id, wanted)):
        value = unseal(sealed) if sealed is not None else json.loads(output) if output is not None else None
        entry: dict[str, Any] = {"output": value if status == "completed" else None}
        if status == "failed":
            entry["error"] = error
        entries[context_name(name)] = entry
    return entries


def base_context(job: Job, plan: Plan, names: frozenset[str]) -> dict[str, Any]:
    """Context of `when`, `for_each`, approval messages and the inputs of steps that the server carries out."""
    secrets = secrets_of(job.revision)
    return {
        **outputs_of(job.id, plan.steps_named(names)),
        "input": clear_input(job),
        "secret": secrets,
        "secrets": secrets,
    }


def each_of(item: Any, index: int | None, total: int | None) -> dict[str, Any] | None:
    return None if index is None else {"item": item, "index": index, "total": total}


def masks_of(job: Job, plan: Plan) -> tuple[str, ...]:
    """Secret values that must not be stored or shown in clear for this job."""
    given = clear_input(job) if job.input_sealed is not None else {}
    typed = [given[name] for name in secret_fields(plan.task.input) if name in given]
    return secret_values([sensitive_of(job.revision_id), typed])


def control_context(job: Job, plan: Plan, node: Node) -> Mapping[str, Any]:
    return base_context(job, plan, node.control_names)


def sealed_loop_output(loop_id: int) -> bytes:
    """The outputs of a loop's instances with their secret values, sealed as one."""
    found = fetch(
        "SELECT output::text, output_sealed FROM jobs_step WHERE loop_id = %s ORDER BY loop_index", (loop_id,)
    )
    values = [
        unseal(sealed) if sealed is not None else json.loads(output) if output is not None else None
        for output, sealed in found
    ]
    return seal(values)
