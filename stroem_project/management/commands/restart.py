"""`manage.py restart`: run a job again, whole or from what failed."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from apps.accounts.grants import allows, role_on
from apps.accounts.models import Role, User
from apps.approvals import rights
from apps.jobs import services
from apps.jobs.flow import restarts
from apps.jobs.models import Job
from engine.errors import Conflict, InputError
from stroem_project.job_ids import find_job
from stroem_project.operator_command import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Start a new job like this one on the current revision, or with --failed run the same job's"
        " failed steps again. The last line is the job's id. Exit code 1 when the job is in no"
        " state for that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="its id, or the beginning of it")
        parser.add_argument(
            "--failed",
            action="store_true",
            help="the same job: failed, cancelled and consequently skipped steps",
        )
        parser.add_argument(
            "--as", dest="email", metavar="EMAIL", help="who restarts it; needs the role operator"
        )

    def act(self, **options: Any) -> int:
        job = find_job(options["job"])
        user = _user(options["email"], job)
        if not options["failed"]:
            self.stdout.write(str(services.rerun_job(job.pk, actor=user).pk))
            return 0
        try:
            restarts.restart_failed(job.pk, actor=user.email if user else "operator")
        except Conflict as error:
            self.stderr.write(f"{job.pk}: {error}")
            return 1
        self.stdout.write(str(job.pk))
        return 0


def _user(email: str | None, job: Job) -> User | None:
    if email is None:
        return None
    user = rights.person(email)
    if user is None:
        raise InputError({"as": f"--as: there is no active user {email[:100]}"})
    workspace = job.workspace.name
    if not allows(role_on(user, workspace), Role.OPERATOR):
        raise InputError({"as": f"--as: {user.email} is no operator of {workspace}"})
    return user
