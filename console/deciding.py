"""What `approve` and `reject` share: who decides, and how the outcome is shown."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from console.base import add_actor
from console.operator_command import OperatorCommand
from console.port import Verdict
from engine.errors import Conflict, NotFound

SUSPENDED = "suspended"


class DecidingCommand(OperatorCommand):
    """Decides as the user named by `--as`, with the same rights as in the admin. Nobody need be
    named where there is only one account."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        parser.add_argument(
            "step", help="name of the approval step; for an instance of a loop, NAME[INDEX]"
        )
        add_actor(parser, "the user who decides; needed where there is more than one account")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def submit(self, options: Mapping[str, Any], verdict: Verdict) -> int:
        """0 when the decision counts, 1 when it is refused. Raises InputError and NotFound."""
        step, job_id = options["step"], self.job_meant(options)
        email = self.platform.person(options["email"])
        try:
            decided = self.platform.decide(job_id, step, email, verdict)
        except Conflict as error:
            self.stderr.write(str(error))
            return 1
        except NotFound as error:
            raise NotFound(f"{error} (as {email})") from None
        if options["json"]:
            told: dict[str, Any] = {"step": step, "status": decided.status}
            if decided.status == SUSPENDED:
                told |= {"approvals": decided.approvals, "needed": decided.needed}
            self.stdout.write(json.dumps(told))
        elif decided.status == SUSPENDED:
            self.stdout.write(f"{step}: {decided.approvals} of {decided.needed} approvals")
        else:
            self.stdout.write(f"{step}: {decided.status}")
        return 0
