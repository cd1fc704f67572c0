"""`manage.py secrets`: the stored secrets of a workspace. Values are written, never shown."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from console import tables
from console.operator_command import OperatorCommand
from engine.errors import InputError, NotFound

LARGEST = 1_000_000


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
            return self._tell(name, "stored", as_json=options["json"])
        try:
            self.platform.remove_secret(workspace, name)
        except NotFound as error:
            raise NotFound(f"{error} in {workspace}") from None
        return self._tell(name, "removed", as_json=options["json"])

    def _list(self, workspace: str, *, as_json: bool) -> int:
        found = self.platform.secrets(workspace)
        if not found and not as_json:
            self.stdout.write("No stored secrets.")
            return 0
        for line in map(tables.as_json, found) if as_json else tables.secrets(found):
            self.stdout.write(line)
        return 0

    def _tell(self, name: str, status: str, *, as_json: bool) -> int:
        told = (
            tables.json_line({"name": name, "status": status}) if as_json else f"{name}: {status}"
        )
        self.stdout.write(told)
        return 0


def _value(name: str, file: str | None) -> str:
    """From the file, from whoever is at the terminal, else from standard input, without the newline
    at its end."""
    if file is not None:
        return _decoded(_content(file), file)
    if sys.stdin.isatty():
        return getpass.getpass(f"Value of {name}: ")
    return _decoded(sys.stdin.buffer.read(LARGEST + 1), "standard input")


def _content(file: str) -> bytes:
    try:
        with Path(file).expanduser().open("rb") as handle:
            return handle.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read"
        raise InputError({"from_file": f"--from-file: {file[:200]!r}: {reason}"}) from None


def _decoded(content: bytes, where: str) -> str:
    if len(content) > LARGEST:
        raise InputError({"value": f"{where}: the value is larger than 1 MB"})
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError({"value": f"{where}: the value is not UTF-8 text"}) from None
    return text.removesuffix("\n").removesuffix("\r")
