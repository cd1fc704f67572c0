"""Serves the worker's ledger: where a step runs and what it finds there besides its workspace, and
which attempts are alive."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from django.conf import settings

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.flow import blueprints
from apps.jobs.plans import Node, Plan
from apps.jobs.values import Claim
from engine.retries import rule_for
from engine.spec.model import Task
from engine.spec.slurm import WORKER_TRIGGERS

LAST_CODE = """
SELECT exit_code FROM jobs_attempt WHERE step_id = %s AND fence < %s AND exit_code IS NOT NULL
ORDER BY fence DESC LIMIT 1
"""
LIVENESS = """
SELECT a.ended_at IS NULL AND a.lease_until > clock_timestamp(), w.name, r.id, r.digest,
    j.blueprint_id, s.base
FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id JOIN jobs_step s ON s.id = a.step_id
    JOIN workspaces_revision r ON r.id = j.revision_id
    JOIN workspaces_workspace w ON w.id = r.workspace_id
WHERE a.id = %s AND a.fence = %s
"""
ENDED = """
SELECT x.name FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::text[]) x(name, step_id, fence,
    job)
JOIN jobs_attempt a ON a.step_id = x.step_id AND a.fence = x.fence
WHERE a.ended_at IS NOT NULL AND right(a.job_id::text, 10) = x.job
"""
_NAME = re.compile(r"([0-9a-f]{10})-([0-9]{1,18})-([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`output_dir`: None, a path, or empty for the directory that the worker gives the job.
    `recovery`: a script to run first, and the previous exit code. `has_sessions`: the worker must
    act before its first step of the job, and when it leaves."""

    environment: Mapping[str, str] = field(default_factory=dict)
    chdir: str | None = None
    output_dir: str | None = None
    recovery: tuple[str, int] | None = None
    has_sessions: bool = False


NOTHING = Surroundings()


def surroundings_of(claim: Claim, plan: Plan, node: Node) -> Surroundings:
    """Only for plans that have some."""
    task = plan.task
    if task.source_format != "torc":
        return Surroundings(output_dir="", has_sessions=has_sessions(task))
    environment = {
        **torc_names(str(claim.job_id)),
        "TORC_JOB_ID": str(claim.step_id),
        "TORC_JOB_NAME": claim.step_name,
        "TORC_ATTEMPT_ID": str(claim.number),
    }
    return Surroundings(
        environment,
        task.torc.get("directory"),
        output_dir_of(task),
        _recovery(claim, node),
        has_sessions(task),
    )


def torc_names(job_id: str) -> dict[str, str]:
    """The variables that Torc's own runner gives every process."""
    return {"TORC_WORKFLOW_ID": job_id, "TORC_API_URL": settings.BASE_URL}


def output_dir_of(task: Task) -> str:
    """`output` beside a Torc file; empty if the worker gives the job a directory of its own."""
    directory = task.torc.get("directory") if task.source_format == "torc" else None
    return str(PurePosixPath(directory) / "output") if directory else ""


def has_sessions(task: Task) -> bool:
    """Whether workers open sessions for jobs of this task."""
    return any(
        action.persistent or action.trigger_type in WORKER_TRIGGERS
        for action in task.workflow_actions
    )


def _recovery(claim: Claim, node: Node) -> tuple[str, int] | None:
    retry = node.retry
    if claim.number < 2 or retry is None or not any(rule.recovery_script for rule in retry.rules):
        return None
    row = fetch_one(LAST_CODE, (claim.step_id, claim.fence))
    rule = rule_for(retry, row[0]) if row else None
    return (rule.recovery_script, row[0]) if rule and row and rule.recovery_script else None


@dataclass(frozen=True, slots=True)
class Liveness:
    """The revision whose files an attempt has: the one that its job pins, or that of the workspace
    whose action it runs. `is_alive` until the attempt ends or its lease runs out."""

    is_alive: bool
    workspace: str
    revision_id: int
    digest: str


def liveness_of(attempt_id: int, fence: int) -> Liveness | None:
    """None if there is no such attempt."""
    row = fetch_one(LIVENESS, (attempt_id, fence))
    if row is None:
        return None
    *found, blueprint_id, base = row
    node = blueprints.load(blueprint_id).nodes.get(base)  # None for a unit
    if node is None or node.abroad is None:
        return Liveness(*found)
    home = node.abroad
    return Liveness(found[0], home.workspace, home.revision_id, home.digest)


def ended(names: frozenset[str]) -> frozenset[str]:
    """Those of the named attempts that have ended for good. Never includes names of other
    installations."""
    found = [hit for hit in map(_NAME.fullmatch, names) if hit]
    if not found:
        return frozenset()
    params = (
        [hit[0] for hit in found],
        [int(hit[2]) for hit in found],
        [int(hit[3]) for hit in found],
        [hit[1] for hit in found],
    )
    return frozenset(name for (name,) in fetch(ENDED, params))
