"""`manage.py state`: what tasks and workspaces remember."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from console import tables
from console.arguments import whole_number
from console.operator_command import OperatorCommand
from engine.errors import NotFound

NUMBER = whole_number(1, 999_999_999)


class Command(OperatorCommand):
    help = (
        "Show what a task remembers, or its workspace without --task: `get` the values and files,"
        " or one value; `history` the versions; `restore` an older one as a new one. Exit code 2:"
        " there is no such thing, or that was not possible."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
        for name, help in (
            ("get", "the values and the files"),
            ("history", "the versions that are kept"),
            ("restore", "make an older version the newest again"),
        ):
            one = what.add_parser(name, help=help)
            one.add_argument("workspace", help="name of the workspace")
            if name == "get":
                one.add_argument(
                    "key", nargs="?", help="only this value: a text as it is, else JSON"
                )
                one.add_argument("--version", type=NUMBER, help="an older version")
            if name == "restore":
                one.add_argument("version", type=NUMBER, help="its number")
                one.add_argument("--as", dest="email", metavar="EMAIL", help="user who does it")
            else:
                one.add_argument("--json", action="store_true", help="print JSON")
            one.add_argument("--task", help="of this task; without it, of the workspace")

    def act(self, **options: Any) -> int:
        owner = options["workspace"], options["task"] or ""
        match options["what"]:
            case "restore":
                made = self.platform.restore_state(*owner, options["version"], options["email"])
                self.stdout.write(f"Version {options['version']} is back, as version {made}.")
            case "history":
                self._history(self.platform.state_history(*owner), as_json=options["json"])
            case _:
                self._get(self.platform.state(*owner, options["version"]), options)
        return 0

    def _history(self, found: Any, *, as_json: bool) -> None:
        if as_json:
            for row in found:
                self.stdout.write(tables.as_json(row))
            return
        if not found:
            self.stdout.write("Nothing has been remembered yet.")
            return
        for line in tables.state_versions(found):
            self.stdout.write(line)

    def _get(self, found: Any, options: dict[str, Any]) -> None:
        key = options["key"]
        if key is not None:
            if key not in found.values:
                raise NotFound(f"There is no '{key}' in version {found.version}")
            value = found.values[key]
            is_text = isinstance(value, str) and not options["json"]
            self.stdout.write(value if is_text else json.dumps(value, ensure_ascii=False))
            return
        if options["json"]:
            self.stdout.write(tables.as_json(found))
            return
        self.stdout.write(f"version {found.version}")
        for name, value in sorted(found.values.items()):
            self.stdout.write(f"{name} = {json.dumps(value, ensure_ascii=False)}")
        for path, size in found.files:
            self.stdout.write(f"file {path} ({size:,} bytes)")
