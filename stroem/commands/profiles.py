"""`stroem profiles`: the servers with a key, and which of them is used."""

from __future__ import annotations

import json
import os
from argparse import ArgumentParser
from typing import Any

from console import tables
from console.operator_command import TypedCommand
from stroem import profiles
from stroem.errors import BadProfile
from stroem.profiles import Profiles


class Command(TypedCommand):
    help = "List the servers that you have signed in to, or choose the one to use."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("use", nargs="?", metavar="NAME", help="use this one from now on")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        file = profiles.file_of(os.environ)
        known = profiles.load(file)
        if options["use"] is not None:
            if options["use"] not in known.by_name:
                raise BadProfile(f"There is no profile '{options['use'][:60]}'")
            known = Profiles(options["use"], known.by_name)
            profiles.save(file, known)
        rows = [(name, name == known.current, one) for name, one in sorted(known.by_name.items())]
        if options["json"]:
            for name, is_current, one in rows:
                told = {"name": name, "url": one.url, "email": one.email, "current": is_current}
                self.stdout.write(json.dumps(told, ensure_ascii=False))
            return 0
        if not rows:
            self.stdout.write("No profiles; `stroem login URL` adds one.")
            return 0
        shown = (
            (name, "*" if is_current else "", one.url, one.email) for name, is_current, one in rows
        )
        for line in tables.table(("NAME", "USED", "SERVER", "AS"), shown):
            self.stdout.write(line)
        return 0
