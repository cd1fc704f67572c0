"""`manage.py remove_workspace`: remove a workspace with its jobs, revisions and stored secrets."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from console.base import PROGRAM
from console.operator_command import OperatorCommand
from engine.errors import Conflict, InputError, NotFound
from engine.plain import plain
from engine.spec.problems import did_you_mean


class Command(OperatorCommand):
    help = (
        "Remove a workspace with its jobs, revisions and stored secrets; its source stays as it is."
        " Exit code 1 if jobs of it have not ended, or if the settings define it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="name of the workspace")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def act(self, **options: Any) -> int:
        name = options["name"]
        if not options["yes"]:
            self._find(name)
        if not options["yes"] and not self._agrees(name):
            self.stdout.write("Nothing was removed.")
            return 1
        try:
            jobs = self.platform.remove_workspace(name)
        except Conflict as error:
            self.stderr.write(f"{error}.")
            return 1
        self.stdout.write(f"{name}: removed, with {jobs} job{'' if jobs == 1 else 's'}")
        return 0

    def _find(self, name: str) -> None:
        """Nobody is asked about a workspace that is not there."""
        known = {one.name for one in self.platform.workspaces()}
        if name not in known:
            raise NotFound(
                f"There is no workspace '{plain(name)[:100]}'{did_you_mean(name, known)}:"
                f" `{PROGRAM} workspaces` lists them"
            )

    def _agrees(self, name: str) -> bool:
        if not sys.stdin.isatty():
            raise InputError(
                {"yes": f"this removes workspace '{name}' and all its jobs: add --yes to confirm"}
            )
        return input(f"Remove {name} and all its jobs? [y/N] ").strip().lower() in ("y", "yes")
