"""What commands share: errors are sentences; Ctrl-C and a closed pipe end a command quietly. Exit
code 0: done, 1: failed, 2: could not be started, 130: interrupted."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, ClassVar, TextIO
from uuid import UUID

from console.base import CommandError, OurCommand, PlatformCommand, require_database
from console.job_ids import find_job
from console.screen import Screen
from engine.errors import StroemError

__all__ = ["OperatorCommand", "OurCommand", "TypedCommand", "require_database"]
REFUSED, INTERRUPTED = 2, 130
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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
            sys.stdout.flush()  # or a full disk would show after the exit code is decided
        except StroemError as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # the reader, for example `head`, has seen enough
            _discard_output()
            sys.exit(1)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            _discard_output()
            reason = (error.strerror or str(error)).lower()
            raise CommandError(f"Nothing more can be written: {reason}.", returncode=1) from error
        if code:
            sys.exit(code)


class OperatorCommand(TypedCommand):
    """A command that needs the platform."""

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        super().handle(*args, **options)

    def job_meant(self, options: Mapping[str, Any]) -> UUID:
        return find_job(self.platform, options["job"])


def _discard_output() -> None:
    """What is left in the buffer must not fail again when the program ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
