"""What the commands for operators share: a database must be known, errors are sentences, Ctrl-C and
a closed pipe end them quietly. Exit code 0: done, 1: it went wrong, 2: it could not even be asked
for."""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from engine.errors import StroemError

REFUSED, INTERRUPTED = 2, 130


class OperatorCommand(BaseCommand):
    """Subclasses write `act`, which answers with the exit code."""

    requires_system_checks: list[str] = []

    def act(self, **options: Any) -> int:
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        logging.getLogger().setLevel(logging.WARNING)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _interrupt)
        if not settings.STROEM.db.url:
            from stroem_project.addresses import unset

            raise CommandError(unset(), returncode=REFUSED)
        try:
            code = self.act(**options)
        except StroemError as error:
            raise CommandError(str(error), returncode=REFUSED) from error
        except DatabaseError as error:
            first = str(error).strip().splitlines() or ["no reason given"]
            raise CommandError(
                f"The database cannot be used: {first[0]}", returncode=REFUSED
            ) from error
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # whoever read us, `head` for example, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if code:
            sys.exit(code)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
