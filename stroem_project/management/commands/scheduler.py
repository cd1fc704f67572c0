"""`manage.py scheduler`: rings for ready steps, sweeps, fires triggers. Any number of them may run."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from stroem_project.supervision.lifeline import watch


class Command(BaseCommand):
    help = "Ring for ready steps, find what was lost, fire triggers."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lifeline-fd", type=int, help="a descriptor at whose end the scheduler ends")

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
        run_forever(stop)
