"""`manage.py scheduler`: rings for ready steps and sweeps. Any number of them may run."""

from __future__ import annotations

import logging
import signal
import threading
from argparse import SUPPRESS, ArgumentParser
from functools import partial
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from console.managed import OurCommand, require_database
from engine.errors import StroemError
from stroem_project.health_files import touch

log = logging.getLogger("stroem.scheduler")


class Command(OurCommand):
    help = (
        "Wake workers for ready steps, start due retries, recover lost steps, enforce time-outs,"
        " reload workspaces. Any number of schedulers may run."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--lifeline-fd",
            type=int,
            help=SUPPRESS,  # `up` uses it: stop when this descriptor closes
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        from apps.conductor.services import run_forever
        from apps.workspaces.refreshing.rounds import Rounds

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        if options["lifeline_fd"] is not None:
            from standalone.supervision.lifeline import watch  # only `up` and `run` ask for it

            watch(options["lifeline_fd"], stop.set)
        _declare_configured()
        refreshes = threading.Thread(target=Rounds(stop).run_forever, name="refreshes")
        refreshes.start()
        run_forever(stop, partial(touch, "alive"))
        refreshes.join()


def _declare_configured() -> None:
    """Note the workspaces of the settings, which are read in turn. One that is wrong does not
    affect the others."""
    from apps.workspaces.services import declare

    try:
        for name, source in settings.STROEM.workspaces.items():
            try:
                declare(
                    name,
                    path=source.path,
                    url=source.url or "",
                    ref=source.ref if source.path is None else "",
                    credential=source.auth or "",
                    poll_interval_s=max(1, round(source.poll_interval_s)),
                )
            except StroemError as error:
                log.warning("workspace %s was not imported: %s", name, error)
    except DatabaseError as error:
        log.warning("the workspaces of the settings were not imported: %s", error)
