"""`manage.py validate`: what is wrong with a workspace, each problem with its file, line and
column."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from engine.errors import AuthorError
from engine.spec.reporting import report
from stroem_project.workspace_path import read_path


class Command(BaseCommand):
    help = (
        "Check a workspace's files. Exit code 0: valid, 1: it has errors, 2: there is nothing to"
        " check."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "path", help="the workspace's folder, or one workflow file, also of Torc"
        )
        parser.add_argument("--strict", action="store_true", help="warnings count as errors")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            _, loaded = read_path(options["path"])
        except AuthorError as error:
            raise CommandError(str(error), returncode=2) from error
        self.stdout.write(report(loaded))
        if loaded.errors or (options["strict"] and loaded.problems):
            sys.exit(1)
