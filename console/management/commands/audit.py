"""`manage.py audit`: the audit log as JSON lines, newest first."""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any

from console.arguments import whole_number
from console.operator_command import OperatorCommand
from engine.errors import InputError

FILTERS = {
    "who": "entries of this person, by e-mail",
    "what": "this act (secret.set), or a kind of object (secret)",
    "object": "about this object, by name or id",
    "workspace": "of this workspace",
    "address": "from this address",
    "key": "with this API key, by its first letters",
}
MOST = 100_000_000
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(text: str) -> str:
    """A time in ISO format, or how long ago."""
    ago = re.fullmatch(r"([0-9]{1,6})([mhdw])", text)
    try:
        if ago is not None:
            seconds = int(ago[1]) * UNITS[ago[2]]
            return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        sentence = f"'{text}' is no time: write 2026-01-31, 2026-01-31T12:00:00Z, 90m, 24h or 7d"
        raise ArgumentTypeError(sentence) from None


class Command(OperatorCommand):
    help = "Print the audit log as JSON lines: who did what, from where, newest first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        for name, help in FILTERS.items():
            parser.add_argument(f"--{name}", help=f"only {help}")
        told = "a date or time (UTC unless it says otherwise), or how long ago: 90m, 24h, 7d"
        parser.add_argument("--since", type=moment, help=f"only from then on: {told}")
        parser.add_argument("--until", type=moment, help="only before then")
        parser.add_argument("--limit", type=whole_number(1, MOST), help="at most so many")

    def act(self, **options: Any) -> int:
        if options["since"] and options["until"] and options["since"] >= options["until"]:
            raise InputError({"since": "--since must be before --until"})
        wanted = {name: options[name] for name in (*FILTERS, "since", "until") if options[name]}
        number = -1
        for number, row in enumerate(self.platform.audit(wanted)):
            if options["limit"] is not None and number >= options["limit"]:
                break
            self.stdout.write(json.dumps(row, ensure_ascii=False))
        if number < 0:
            self.stderr.write("No entries.")
        return 0
