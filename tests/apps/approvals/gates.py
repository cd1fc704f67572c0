"""Workspaces with an approval step, and users who decide through the service."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.approvals import services
from apps.approvals.models import ApprovalRequest, Record
from apps.approvals.services import Caller, Decided
from apps.jobs.models import Job, Step
from apps.jobs.services import start_job
from apps.workspaces.models import Workspace
from tests.apps.jobs.builders import workspace

_numbers = itertools.count()

GATE = """
actions:
  work: {{type: script, script: "true", input: {{note: {{type: string}}}}}}
  gate:
    type: approval
    message: "Deploy {{{{ input.version }}}}?"
{more}
tasks:
  main:
    input: {{version: {{type: string, default: "1.2"}}}}
    flow:
      gate: {{action: gate {step}}}
      after: {{action: work, depends_on: [gate]}}
"""


def gate(folder: Path, more: str = "", *, step: str = "") -> Workspace:
    """A workspace whose task `main` asks at its step `gate`. `more`: keys of the approval, as
    YAML."""
    text = GATE.format(
        more=textwrap.indent(textwrap.dedent(more).strip("\n"), "    "),
        step=f", {step}" if step else "",
    )
    return workspace(folder, text)


def person(
    role: Role | None = None, *, pattern: str = "*", groups: tuple[str, ...] = (), **fields: Any
) -> User:
    user = User.objects.create(email=f"p{next(_numbers)}@example.org", **fields)
    if role is not None:
        WorkspaceGrant.objects.create(user=user, pattern=pattern, role=role)
    for name in groups:
        user.groups.add(Group.objects.get_or_create(name=name)[0])
    return user


def operator(**fields: Any) -> User:
    return person(Role.OPERATOR, **fields)


def viewer(**fields: Any) -> User:
    return person(Role.VIEWER, **fields)


def asked(
    workspace: Workspace, *, starter: User | None = None, given: Mapping[str, Any] | None = None
) -> Job:
    """A job that waits for approval."""
    job = start_job(workspace.name, "main", given or {}, user=starter)
    assert Step.objects.get(job=job, name="gate").status == "suspended"
    return job


def request_of(job: Job, step: str = "gate") -> ApprovalRequest:
    return services.request_of(job.pk, step)


def approve(
    job: Job, user: User, given: Mapping[str, Any] | None = None, *, step: str = "gate"
) -> Decided:
    return services.decide(
        request_of(job, step).pk, Caller(user, "api", "192.0.2.1"), approved=True, given=given
    )


def reject(job: Job, user: User, reason: str = "", *, step: str = "gate") -> Decided:
    return services.decide(
        request_of(job, step).pk, Caller(user, "api", "192.0.2.1"), approved=False, reason=reason
    )


def step_of(job: Job, name: str = "gate") -> Step:
    return Step.objects.get(job=job, name=name)


def records(job: Job) -> list[tuple[str, str, str]]:
    """(actor, what, outcome) of all attempts, in order."""
    return list(
        Record.objects.filter(job_id=job.pk).order_by("id").values_list("actor", "what", "outcome")
    )
