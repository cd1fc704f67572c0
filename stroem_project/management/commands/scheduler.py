"""`manage.py scheduler`: rings for ready steps, sweeps, fires triggers. Any number of them may
run."""

from __future__ import annotations

import logging
import signal
import threading
from argparse import ArgumentParser
from functools import partial
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from stroem_project.health_files import touch
from stroem_project.supervision.lifeline import watch

log = logging.getLogger("stroem.scheduler")


class Command(BaseCommand):
    help = "Ring for ready steps, find what was lost, fire triggers."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--lifeline-fd", type=int, help="a descriptor at whose end the scheduler ends"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.STROEM.db.url:
            from stroem_project.addresses import unset

            raise CommandError(unset(), returncode=2)
        from apps.conductor.services import run_forever

        stop = threading.Event()

        def ask_to_stop(number: int, frame: FrameType | None) -> None:
            stop.set()

        signal.signal(signal.SIGTERM, ask_to_stop)
        signal.signal(signal.SIGINT, ask_to_stop)
        if options["lifeline_fd"] is not None:
            watch(options["lifeline_fd"], stop.set)
        _import_configured()
        run_forever(stop, partial(touch, "alive"))


def _import_configured() -> None:
    """Workspaces that the settings name; one that cannot be read must not keep the others
    waiting."""
    from stroem_project.preparation import import_configured

    try:
        for name, sentence in import_configured().items():
            log.warning("workspace %s was not imported: %s", name, sentence)
    except DatabaseError as error:
        log.warning("the workspaces of the settings were not imported: %s", error)
