"""`manage.py agents`: performs the steps that speak to language models."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from argparse import SUPPRESS, ArgumentParser
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from django.conf import settings
from django.core.management.base import CommandError

from console.managed import OurCommand, require_database
from engine import VERSION
from engine.errors import PlatformError
from runners.host.environment import find_user, harden
from stroem_project.celery import app
from stroem_project.health_files import keep_touching
from workers.config import typed_name

if TYPE_CHECKING:
    from workers.agent_assembly import AgentProcess

log = logging.getLogger("stroem.agents")
DRAIN_S = 30.0


class Command(OurCommand):
    help = (
        "Perform agent steps with the providers in `agents.providers`. On SIGTERM or Ctrl-C, start"
        " no more and give running ones 30 s; what is not answered then is asked again elsewhere."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--name", type=typed_name, help="as others see this process (default: agents@HOST)"
        )
        parser.add_argument(
            "--lifeline-fd",
            type=int,
            help=SUPPRESS,  # `up` and `run` use it: stop at once when this descriptor closes
        )

    def handle(self, *args: Any, **options: Any) -> None:
        require_database()
        harden()  # programs of MCP servers may run as the same user
        if (run_as := settings.STROEM.agents.mcp.run_as) is not None:
            try:
                find_user(run_as)
            except PlatformError as error:
                raise CommandError(f"agents.mcp.run_as: {error}") from None
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request
        for name in ("mcp", "client"):  # they print what servers say
            logging.getLogger(name).setLevel(logging.CRITICAL)
        _suit_database()
        stop, hurry = threading.Event(), threading.Event()

        def at_once() -> None:
            hurry.set()
            stop.set()

        _listen_to_signals(stop, hurry)
        if options["lifeline_fd"] is not None:
            from standalone.supervision.lifeline import watch  # only `up` and `run` ask for it

            watch(options["lifeline_fd"], at_once)
        name = options["name"] or f"agents@{socket.gethostname()}"
        process = _assemble(name)
        keep_touching(lambda: process.presence.may_claim)
        if process.open(stop):
            known = ", ".join(sorted(settings.STROEM.agents.providers)) or "none"
            self.stdout.write(
                f"{name}: {settings.STROEM.agents.max_concurrent} conversations at a time;"
                f" providers {known}"
            )
            self.stdout.flush()
            stop.wait()
            process.worker.drain(DRAIN_S, hurry)
        _end()


def _assemble(name: str) -> AgentProcess:
    from apps.agents import ledger as agents
    from apps.jobs import bells, ledger
    from engine.agents.limits import Limits
    from workers.agent_assembly import AgentDoors, AgentSettings, assemble

    known = settings.STROEM.agents
    return assemble(
        AgentSettings(
            name,
            known.providers,
            known.limits,
            Limits(tokens=known.daily.tokens, cost=known.daily.cost),
            known.mcp,
            known.max_concurrent,
            DRAIN_S,
            settings.STROEM.data_dir,
        ),
        AgentDoors(ledger, agents, bells, app),
        lease_s=settings.STROEM.recovery.heartbeat_timeout_s,
        version=VERSION,
    )


def _suit_database() -> None:
    """Conversations hold no connection while a model thinks; leases and logs have one each."""
    slots = settings.STROEM.agents.max_concurrent
    os.environ.setdefault("STROEM_DB_POOL", str(slots + 3))
    options = settings.DATABASES["default"].get("OPTIONS", {})
    if isinstance(options.get("pool"), dict):
        options["pool"]["max_size"] = max(slots + 3, options["pool"].get("max_size", 0))


def _listen_to_signals(stop: threading.Event, hurry: threading.Event) -> None:
    def on_signal(number: int, frame: FrameType | None) -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _end() -> NoReturn:
    """Exit at once, even if threads hang in calls to a provider."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
