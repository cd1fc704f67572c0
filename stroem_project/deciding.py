"""What `approve` and `reject` share: whose decision it is, and how its outcome is told."""

from __future__ import annotations

import getpass
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from apps.approvals import rights, services
from apps.approvals.errors import NotAllowed
from apps.approvals.services import Caller
from engine.errors import Conflict, InputError, NotFound
from stroem_project.job_ids import find_job
from stroem_project.operator_command import OperatorCommand


class DecidingCommand(OperatorCommand):
    """Decides as the user named by `--as`, who may do here what they may do in the admin, and no
    more."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="its id, or the beginning of it")
        parser.add_argument(
            "step", help="the name of the approval step; an instance of a loop is NAME[INDEX]"
        )
        parser.add_argument(
            "--as", dest="email", required=True, metavar="EMAIL", help="whose decision it is"
        )

    def decide(
        self,
        options: Mapping[str, Any],
        *,
        approved: bool,
        given: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> int:
        """0 when the decision counts, 1 when it is refused. Raises InputError and NotFound for what
        is wrong."""
        user = rights.person(options["email"])
        if user is None:
            raise InputError({"as": f"--as: there is no active user {options['email'][:100]}"})
        caller = Caller(user, "cli", f"local user {_login()}")
        try:
            request = services.request_of(find_job(options["job"]).pk, options["step"])
            decided = services.decide(
                request.pk, caller, approved=approved, given=given or None, reason=reason
            )
        except (Conflict, NotAllowed) as error:
            self.stderr.write(str(error))
            return 1
        except NotFound as error:
            raise NotFound(f"{error} (as {user.email})") from None
        if decided.status == "suspended":
            self.stdout.write(
                f"{options['step']}: {decided.approvals} of {decided.needed} approvals"
            )
        else:
            self.stdout.write(f"{options['step']}: {decided.status}")
        return 0


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user id need not have a name
        return "unknown"
