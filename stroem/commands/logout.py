"""`stroem logout`: forget the key of a server."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser
from typing import Any

from console.operator_command import TypedCommand
from stroem import profiles
from stroem.errors import BadProfile
from stroem.profiles import Profiles


class Command(TypedCommand):
    help = "Forget the key of a profile. It stays valid: revoke it at /admin/keys/ of its server."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> int:
        file = profiles.file_of(os.environ)
        known = profiles.load(file)
        name = options["profile"] or os.environ.get("STROEM_PROFILE") or known.current
        if name not in known.by_name:
            raise BadProfile(f"There is no profile '{name[:60]}'")
        left = {key: one for key, one in known.by_name.items() if key != name}
        current = known.current if known.current in left else min(left, default=profiles.USUAL)
        profiles.save(file, Profiles(current, left))
        told = {"profile": name, "status": "removed"}
        self.stdout.write(json.dumps(told) if options["json"] else f"{name}: removed")
        return 0
