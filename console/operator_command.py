"""What commands share: errors are sentences; Ctrl-C ends a command quietly. Exit code 0: done, 1:
failed, 2: could not be started, 130: interrupted."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, ClassVar, TextIO
from uuid import UUID

from console.base import CommandError, OurCommand, PlatformCommand
from console.job_ids import find_job
from console.screen import Screen
from console.streams import INTERRUPTED
from engine.errors import StroemError

__all__ = ["OperatorCommand", "OurCommand", "TypedCommand"]
REFUSED = 2


class TypedCommand(PlatformCommand):
    """Subclasses implement `act`, which returns the exit code."""

    interrupted_by: ClassVar[tuple[signal.Signals, ...]] = (signal.SIGTERM, signal.SIGHUP)

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
            with self.telling():
                code = self.act(**options)
        except StroemError as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        except (KeyboardInterrupt, EOFError):  # Ctrl-C, or Ctrl-D where something is asked
            sys.exit(INTERRUPTED)
        if code:
            sys.exit(code)


class OperatorCommand(TypedCommand):
    """A command that needs the platform."""

    def job_meant(self, options: Mapping[str, Any]) -> UUID:
        return find_job(self, options["job"])


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
