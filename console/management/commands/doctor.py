"""`manage.py doctor`: checks that Stroem has all it needs, and says how to fix what is missing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

from console.health import ask_providers, examine
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

        parser.add_argument(
            "--providers",
            action="store_true",
            help="also ask each provider of language models one small question",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        counts = Counter[str]()
        findings = examine(Path(options["config"]) if options["config"] else None)
        asked = ask_providers() if options["providers"] else ()
        for finding in chain(findings, asked):
            counts[finding.level] += 1
            if finding.level != "ok" or not options["quiet"]:
                self.stdout.write(f"{MARKS[finding.level]}  {finding.about}: {finding.sentence}")
                self.stdout.flush()
        problems, warnings = counts["problem"], counts["warning"]
        found = f"{_number(problems, 'problem')} found" if problems else "No problems found"
        said = f"; {_number(warnings, 'warning')}" if warnings else ""
        self.stdout.write(f"{found}{said}.")
        if problems:
            sys.exit(1)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
