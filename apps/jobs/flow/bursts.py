"""Many jobs that begin at the same moment, in a few statements."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.jobs import bells
from apps.jobs.database.sql import fetch, jsonb
from apps.jobs.flow import abroad
from apps.jobs.flow.starting import INSERT_STEPS, Birth, job_of, now_and_ids, steps_of
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows

INSERT_JOBS = """
INSERT INTO jobs_job ({columns})
SELECT {columns} FROM jsonb_populate_recordset(NULL::jobs_job, %(rows)s)
"""
INSERT_STEPS_OF_MANY = INSERT_STEPS.replace("%(job)s", "x.job").replace(
    "x(id bigint,", "x(job uuid, id bigint,"
)


def launch_all(births: Sequence[Birth]) -> list[Job]:
    """Start jobs that begin without a decision (`Plan.begins_plainly`), in the open transaction;
    what `starting.create` does for one."""
    if not births:
        return []
    jobs, roots = _write(births)
    ready = pen.begin_many({job.id: ids for job, ids in zip(jobs, roots, strict=True)})
    bells.ring_after_commit(ready)
    return jobs


def _write(births: Sequence[Birth]) -> tuple[list[Job], list[list[int]]]:
    """Insert the jobs and their steps, all pending, in three statements. Returns the jobs, and the
    ids of the steps without dependencies of each."""
    now, found = now_and_ids(sum(len(birth.plan.nodes) for birth in births))
    free, steps, roots = iter(found), list[dict[str, Any]](), list[list[int]]()
    jobs = [job_of(birth, now) for birth in births]
    for job, birth in zip(jobs, births, strict=True):
        ids = {name: next(free) for name in birth.plan.nodes}
        steps += ({**step, "job": str(job.id)} for step in steps_of(job, birth.plan, ids))
        roots.append([ids[name] for name in birth.plan.roots])
    _insert_jobs(jobs)
    fetch(INSERT_STEPS_OF_MANY, {"rows": jsonb(steps)})
    for job, birth in zip(jobs, births, strict=True):
        if birth.plan.strangers:
            rows.note_loans(job.id, abroad.told(birth.plan))
    return jobs, roots


def _insert_jobs(jobs: Sequence[Job]) -> None:
    """Write jobs in one statement with one parameter: a fifth of the time of `bulk_create`."""
    columns = {str(field.column): field.attname for field in Job._meta.concrete_fields}
    rows = [{column: _plain(getattr(job, columns[column])) for column in columns} for job in jobs]
    fetch(INSERT_JOBS.format(columns=", ".join(columns)), {"rows": jsonb(rows)})


def _plain(value: Any) -> Any:
    """`value` as the database reads it from JSON."""
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return str(value) if isinstance(value, (datetime, UUID)) else value
