"""`manage.py connections`: connections of a workspace. Secret values are written, never shown."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from console import tables
from console.base import add_actor
from console.follower import Follower, answer, show_result
from console.operator_command import OperatorCommand
from console.typed_input import read_secretly
from engine.errors import InputError
from engine.lifecycle import JobStatus

ACTS = ("list", "set", "remove", "check")
OWNERS = {"type": "set", "from_file": "set", "follow": "check", "email": "check"}


class Command(OperatorCommand):
    help = (
        "List connections, set the values of one in the database, remove it from there, or check"
        " it. `set` reads a JSON object of values from standard input: with --type all of a"
        " connection, without it those that change. `check` starts a job; with --follow, exit code"
        " 0: it completed, 1: it did not."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=ACTS)
        parser.add_argument("workspace", help="name of the workspace")
        parser.add_argument("name", nargs="?", help="name of the connection")
        parser.add_argument("--type", metavar="TYPE", help="`set`: its type; takes all values")
        parser.add_argument(
            "--from-file", metavar="PATH", help="`set`: read the values from a file"
        )
        parser.add_argument("--follow", action="store_true", help="`check`: wait for its end")
        add_actor(parser, "`check`: user who starts it, with the right `run`")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        what, workspace, name = options["what"], options["workspace"], options["name"]
        if (name is None) != (what == "list"):
            wanted = "takes no name" if what == "list" else "needs the name of the connection"
            raise InputError({"name": f"connections {what} {wanted}"})
        for option, owner in OWNERS.items():
            if options[option] and what != owner:
                flag = "--as" if option == "email" else f"--{option.replace('_', '-')}"
                raise InputError({option: f"{flag} is for `connections {owner}`, not for {what}"})
        if what == "list":
            return self._list(workspace, as_json=options["json"])
        if what == "check":
            return self._check(options)
        if what == "set":
            values = _values(options["from_file"])
            version = self.platform.store_connection(workspace, name, options["type"], values)
            status = f"stored as version {version}"
        else:
            is_in_files = self.platform.remove_connection(workspace, name)
            rest = "; the one of the files is in force again" if is_in_files else ""
            status = f"removed{rest}"
        self.stdout.write(tables.status(name, status, as_json=options["json"]))
        return 0

    def _list(self, workspace: str, *, as_json: bool) -> int:
        found = self.platform.connections(workspace)
        if not found and not as_json:
            self.stdout.write("No connections.")
            return 0
        for line in map(tables.as_json, found) if as_json else tables.connections(found):
            self.stdout.write(line)
        return 0

    def _check(self, options: Mapping[str, Any]) -> int:
        workspace, name = options["workspace"], options["name"]
        job_id = self.platform.check_connection(workspace, name, options["email"])
        if not options["follow"]:
            told = json.dumps({"job_id": str(job_id)}) if options["json"] else str(job_id)
            self.stdout.write(told)
            return 0
        screen = self.screen(sys.stdout, options)
        Follower(self.platform, job_id, screen).follow()
        result = show_result(self.platform, job_id, name, screen)
        if options["json"]:
            self.stdout.write(json.dumps(answer(self.platform, result), ensure_ascii=False))
        return 0 if result.status == JobStatus.COMPLETED else 1


def _values(file: str | None) -> dict[str, Any]:
    """A JSON object, from the file or from standard input. No message repeats any of it."""
    content = read_secretly(file, "values")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        wanted = 'a JSON object of values, such as {"password": "..."}'
        where = file or "standard input"
        raise InputError({"values": f"{where}: must hold {wanted}"})
    return found
