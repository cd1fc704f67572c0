"""What `approve` and `reject` share: whose decision it is, and how its outcome is told."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from console.operator_command import OperatorCommand
from console.port import Verdict
from engine.errors import Conflict, NotFound


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

    def submit(self, options: Mapping[str, Any], verdict: Verdict) -> int:
        """0 when the decision counts, 1 when it is refused. Raises InputError and NotFound for what
        is wrong."""
        step, email = options["step"], self.platform.person(options["email"])
        try:
            decided = self.platform.decide(self.job_meant(options), step, email, verdict)
        except Conflict as error:
            self.stderr.write(str(error))
            return 1
        except NotFound as error:
            raise NotFound(f"{error} (as {email})") from None
        if decided.status == "suspended":
            self.stdout.write(f"{step}: {decided.approvals} of {decided.needed} approvals")
        else:
            self.stdout.write(f"{step}: {decided.status}")
        return 0
