"""`manage.py libraries`: the libraries of workspaces with their pins, and moving a pin."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console import tables
from console.operator_command import OperatorCommand
from engine.errors import InputError


class Command(OperatorCommand):
    help = (
        "List the libraries of workspaces: where each is pinned and what uses it. `refresh`"
        " moves the pin of one library, or of all of a workspace, to what is the newest now."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("list", "refresh"), nargs="?", default="list")
        parser.add_argument("workspace", nargs="?", help="name of the workspace")
        parser.add_argument("name", nargs="?", help="`refresh`: name of the library")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        workspace, name = options["workspace"], options["name"]
        if options["what"] == "refresh":
            if workspace is None:
                raise InputError({"workspace": "libraries refresh needs the name of the workspace"})
            self.platform.refresh_libraries(workspace, name)
        elif name is not None:
            raise InputError({"name": "libraries list takes no name of a library"})
        found = self.platform.libraries(workspace)
        if not found and not options["json"]:
            self.stdout.write("No libraries.")
        for line in map(tables.as_json, found) if options["json"] else tables.libraries(found):
            if found:
                self.stdout.write(line)
        return 0
