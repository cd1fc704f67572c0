"""Commands of `manage.py`: Django runs them, and the database is behind them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import DatabaseError, ProgrammingError

from engine import VERSION
from engine.plain import plain_lines

if TYPE_CHECKING:
    from console.port import Platform

__all__ = [
    "PROGRAM",
    "CommandError",
    "OurCommand",
    "PlatformCommand",
    "add_actor",
    "require_database",
]
PROGRAM = "manage.py"
REFUSED = 2
NO_DATABASE = (
    "No database is configured: start `manage.py up` first, or set STROEM__DB__URL and"
    " STROEM__BROKER__URL to your own servers."
)


def require_database() -> None:
    if not settings.STROEM.db.url:
        raise CommandError(NO_DATABASE, returncode=REFUSED)


def add_actor(parser: ArgumentParser, what: str) -> None:
    """The option that names who acts; `what` they do."""
    parser.add_argument("--as", dest="email", metavar="EMAIL", help=what)


class OurCommand(BaseCommand):
    """A command whose usage names its own options, and whose errors are sentences."""

    requires_system_checks: list[str] = []
    is_typed = False  # on a command line, not called by code

    def run_from_argv(self, argv: list[str]) -> None:
        self.is_typed = True
        super().run_from_argv(argv)

    def get_version(self) -> str:
        return f"Stroem {VERSION}"

    def create_parser(self, prog_name: str, subcommand: str, **options: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **options)
        # which needs an error of ours
        from console.arguments import refuse_empty_values, refuse_repeated

        refuse_empty_values(parser)
        refuse_repeated(parser)
        lent = DjangoHelpFormatter.show_last
        own = [action for action in parser._actions if not lent.intersection(action.option_strings)]
        formatter = parser._get_formatter()
        formatter.add_usage(None, own, [])
        parser.usage = formatter.format_help().removeprefix("usage: ").strip()
        return parser

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            if not self.is_typed or options["traceback"]:
                raise
            self.stderr.write(f"error: {plain_lines(str(error))}")
            sys.exit(error.returncode)


class PlatformCommand(OurCommand):
    @cached_property
    def platform(self) -> Platform:
        require_database()  # here, so that a wrong option is said first
        from console.database import Database

        return Database()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Faults of the database become sentences."""
        try:
            yield
        except DatabaseError as error:
            raise CommandError(told(error), returncode=REFUSED) from error


def told(error: DatabaseError) -> str:
    """What to do about a database that is away or of another version."""
    first = str(error).strip().splitlines() or ["no reason given"]
    return f"The database cannot be used: {first[0]}. {_cure(error)}"


def _cure(error: DatabaseError) -> str:
    if isinstance(error, ProgrammingError):  # a table or a column is missing
        return "Run `manage.py migrate`."
    return "Start it, or correct STROEM__DB__URL; `manage.py doctor` says more."
