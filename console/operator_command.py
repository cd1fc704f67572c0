"""What commands share: errors are sentences; Ctrl-C and a closed pipe end a command quietly. Exit
code 0: done, 1: failed, 2: could not be started, 130: interrupted."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping
from functools import cached_property
from types import FrameType
from typing import Any, ClassVar, TextIO
from uuid import UUID

from django.conf import settings
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import DatabaseError, ProgrammingError

from console.job_ids import find_job
from console.port import Platform
from console.screen import Screen
from engine import VERSION
from engine.errors import StroemError
from engine.plain import plain_lines

REFUSED, INTERRUPTED = 2, 130
NO_DATABASE = (
    "No database is configured: start `manage.py up` first, or set STROEM__DB__URL and"
    " STROEM__BROKER__URL to your own servers."
)


def require_database() -> None:
    if not settings.STROEM.db.url:
        raise CommandError(NO_DATABASE, returncode=REFUSED)


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


class TypedCommand(OurCommand):
    """Subclasses implement `act`, which returns the exit code."""

    interrupted_by: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGHUP)

    @cached_property
    def platform(self) -> Platform:
        from console.database import Database

        return Database()

    def act(self, **options: Any) -> int:
        raise NotImplementedError

    def screen(self, out: TextIO, options: Mapping[str, Any]) -> Screen:
        """With the colours that the caller wants."""
        if options["force_color"]:
            return Screen(out, has_colour=True)
        return Screen(out, has_colour=False if options["no_color"] else None)

    def handle(self, *args: Any, **options: Any) -> None:
        logging.getLogger().setLevel(logging.WARNING)
        for number in self.interrupted_by:
            signal.signal(number, _interrupt)
        try:
            code = self.act(**options)
        except StroemError as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        except DatabaseError as error:
            first = str(error).strip().splitlines() or ["no reason given"]
            sentence = f"The database cannot be used: {first[0]}. {_cure(error)}"
            raise CommandError(sentence, returncode=REFUSED) from error
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # the reader, for example `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if code:
            sys.exit(code)


class OperatorCommand(TypedCommand):
    """A command that needs the platform."""

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        super().handle(*args, **options)

    def job_meant(self, options: Mapping[str, Any]) -> UUID:
        return find_job(self.platform, options["job"])


def _cure(error: DatabaseError) -> str:
    if isinstance(error, ProgrammingError):  # a table or a column is missing
        return "Run `manage.py migrate`."
    return "Start it, or correct STROEM__DB__URL; `manage.py doctor` says more."


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
