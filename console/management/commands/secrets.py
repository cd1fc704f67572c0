"""`manage.py secrets`: the stored secrets of a workspace. Values are written, never shown."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from typing import Any

from console import tables
from console.operator_command import OperatorCommand
from console.typed_input import read_secretly
from engine.errors import InputError, NotFound


class Command(OperatorCommand):
    help = (
        "List, set or remove the stored secrets of a workspace. `set` reads the value from"
        " standard input, or asks for it: on a command line, other users could read it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("list", "set", "remove"))
        parser.add_argument("workspace", help="name of the workspace")
        parser.add_argument("name", nargs="?", help="name of the secret")
        parser.add_argument("--from-file", metavar="PATH", help="`set`: read the value from a file")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        what, workspace, name = options["what"], options["workspace"], options["name"]
        if (name is None) != (what == "list"):
            wanted = "takes no name" if what == "list" else "needs the name of the secret"
            raise InputError({"name": f"secrets {what} {wanted}"})
        if options["from_file"] is not None and what != "set":
            raise InputError({"from_file": f"--from-file is for `secrets set`, not for {what}"})
        if what == "list":
            return self._list(workspace, as_json=options["json"])
        if what == "set":
            self.platform.store_secret(workspace, name, _value(name, options["from_file"]))
            status = "stored"
        else:
            try:
                self.platform.remove_secret(workspace, name)
            except NotFound as error:
                raise NotFound(f"{error} in {workspace}") from None
            status = "removed"
        self.stdout.write(tables.status(name, status, as_json=options["json"]))
        return 0

    def _list(self, workspace: str, *, as_json: bool) -> int:
        found = self.platform.secrets(workspace)
        if not found and not as_json:
            self.stdout.write("No stored secrets.")
            return 0
        for line in map(tables.as_json, found) if as_json else tables.secrets(found):
            self.stdout.write(line)
        return 0


def _value(name: str, file: str | None) -> str:
    """From the file, from whoever is at the terminal, else from standard input, without the newline
    at its end."""
    if file is None and sys.stdin.isatty():
        return getpass.getpass(f"Value of {name}: ")
    try:
        text = read_secretly(file, "value").decode("utf-8")
    except UnicodeDecodeError:
        where = file or "standard input"
        raise InputError({"value": f"{where}: the value is not UTF-8 text"}) from None
    return text.removesuffix("\n").removesuffix("\r")
