"""A person with a role, a denial, and files that keep a right: what may they do, and why?"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apps.jobs.models import Job
    from tests.browser.stage import Stage

FILES = """
access:
  deploy/*: { run: { groups: [release] } }
actions: { work: { type: script, script: "echo done" } }
tasks:
  release: { folder: deploy, flow: { ship: { action: work } } }
  roll-back: { folder: deploy, flow: { ship: { action: work } } }
  payroll:
    folder: people
    input: { month: { type: string, default: "2026-11" } }
    flow: { pay: { action: work } }
  import-prices: { flow: { fetch: { action: work } } }
"""
PERSON = "ines@example.org"
PAGE = f"/admin/rights/?person={PERSON}&workspace=outlet"
TASK = "/admin/rights/?workspace=outlet&task=release"
GRANT = "/admin/accounts/workspacegrant/add/"


def prepare(stage: Stage) -> Job:
    """A job of which vera sees neither the inputs nor the logs."""
    from django.contrib.auth.models import Group

    from apps.accounts.models import Role, User, WorkspaceGrant
    from apps.jobs.models import Job

    if stage.has("outlet"):
        return Job.objects.get(workspace__name="outlet")
    stage.workspace("outlet", FILES)
    support = Group.objects.get_or_create(name="support")[0]
    ines = User.objects.create_user(PERSON)
    ines.groups.add(support)
    grants = WorkspaceGrant.objects
    grants.create(group=support, pattern="out*", role=Role.OPERATOR)
    people = {"pattern": "outlet", "tasks": "people/*", "role": Role.DENY}
    grants.create(user=ines, **people)
    grants.create(user=ines, pattern="outlet", role=Role.CUSTOM, rights=["secrets"])
    grants.create(user=stage.vera, pattern="outlet", role=Role.VIEWER)
    grants.create(user=stage.vera, **people, rights=["inputs", "logs"])
    job = stage.start("payroll", None, "outlet")
    stage.until_job(job, "completed")
    return job
