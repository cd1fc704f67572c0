"""`manage.py triggers`: what starts jobs without a person; pausing it, and firing it by hand."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console import tables
from console.operator_command import OperatorCommand

ACTIONS = ("pause", "resume", "fire", "send-again", "discard")


class Command(OperatorCommand):
    help = (
        "List triggers with their state and next run; `next` shows the next five runs of each"
        " clock; `pause`, `resume` and `fire` act on one trigger, named WORKSPACE NAME, and so do"
        " `send-again` and `discard` with all dead letters of an event source. Exit code 2: that"
        " was not possible."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", metavar="WHAT")
        for name, help in (("list", "all triggers (default)"), ("next", "the next runs")):
            one = what.add_parser(name, help=help)
            one.add_argument("workspace", nargs="?", help="only triggers of this workspace")
            one.add_argument("--json", action="store_true", help="print one JSON object per line")
        for name, help in (
            ("pause", "stop it without touching the files"),
            ("resume", "let it go on"),
            ("fire", "start its job now; the last line is the job's id"),
            ("send-again", "let all its dead letters try once more"),
            ("discard", "forget all its dead letters"),
        ):
            one = what.add_parser(name, help=help)
            one.add_argument("workspace", help="name of the workspace")
            one.add_argument("trigger", help="name of the trigger")
            one.add_argument(
                "--as", dest="email", metavar="EMAIL", help="user who does it, with the right `run`"
            )

    def act(self, **options: Any) -> int:
        what = options["what"] or "list"
        if what in ACTIONS:
            said = self.platform.act_on_trigger(
                options["workspace"], options["trigger"], what, options["email"]
            )
            self.stdout.write(said)
            return 0
        found = self.platform.triggers(options.get("workspace"))
        if options.get("json"):
            for row in found:
                self.stdout.write(tables.as_json(row))
            return 0
        if not found:
            self.stdout.write("No triggers; workspaces declare them under `triggers:`.")
            return 0
        if what == "next" and not any(row.next for row in found):
            self.stdout.write("None of these triggers has a next run.")
            return 0
        for line in (tables.next_runs if what == "next" else tables.triggers)(found):
            self.stdout.write(line)
        return 0
