"""`manage.py doctor`: checks that Stroem has all it needs, and says how to fix what is missing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from console.health import examine
from console.operator_command import OurCommand

MARKS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


class Command(OurCommand):
    help = (
        "Check configuration, database, broker, workers, workspaces, engines, toolchains and disk."
        " Exit code 1 if there is a problem."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quiet", action="store_true", help="show only warnings and problems")
        parser.add_argument(
            "--config",
            metavar="FILE",
            help="a worker-config.yaml: also check its Kubernetes cluster",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        problems = 0
        for finding in examine(Path(options["config"]) if options["config"] else None):
            problems += finding.level == "problem"
            if finding.level != "ok" or not options["quiet"]:
                self.stdout.write(f"{MARKS[finding.level]}  {finding.about}: {finding.sentence}")
                self.stdout.flush()
        if problems:
            self.stdout.write(f"{problems} problem{'s' if problems > 1 else ''} found.")
            sys.exit(1)
        self.stdout.write("No problems found.")
