"""The programs that `up` and `run` start: server, scheduler, worker."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from django.conf import settings

from standalone.supervision.program import Program, StopSteps
from workers.config import load

DRAIN_S = 5  # how long `up` lets running steps continue when it ends, unless settings say otherwise
DRAIN = "STROEM__WORKER__DRAIN_SECS"
# Only `up` itself needs these; the programs do not get them.
WITHHELD = frozenset({"STROEM_ADMIN_EMAIL", "STROEM_ADMIN_PASSWORD", "PORT"})


def manage_program(
    command: str,
    logs: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stop_steps: StopSteps = ((signal.SIGTERM, 5.0),),
) -> Program:
    kept = {name: value for name, value in os.environ.items() if name not in WITHHELD}
    return Program(
        name=command,
        argv=(sys.executable, str(settings.BASE_DIR / "manage.py"), command, *arguments),
        log=logs / f"{command}.log",
        env={**kept, "PYTHONUNBUFFERED": "1", **(env or {})},
        stop_steps=stop_steps,
        holds_lifeline=True,
    )


def server_program(logs: Path, host: str, port: int) -> Program:
    base = manage_program("server", logs, "--host", host, "--port", str(port))
    reach = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (compared, not listened on)
    return replace(base, answers=lambda: _answers(reach, port))


def worker_program(logs: Path, config_file: str | None, *, drain_s: int = DRAIN_S) -> Program:
    arguments = ("--config", config_file) if config_file else ()
    env = {DRAIN: os.environ.get(DRAIN, str(drain_s))} if config_file is None or not drain_s else {}
    seconds = drain_s_of(config_file) if drain_s else 0.0
    return manage_program(
        "worker", logs, *arguments, env=env, stop_steps=((signal.SIGTERM, seconds + 3.0),)
    )


def agents_program(logs: Path, *, stops_within_s: float = 3.0) -> Program:
    """A conversation that is stopped goes on where it was."""
    at_once = ((signal.SIGTERM, 0.5), (signal.SIGTERM, stops_within_s))
    return manage_program("agents", logs, stop_steps=at_once)


def drain_s_of(config_file: str | None) -> float:
    """How long the worker of `up` lets running steps continue: as its settings say, else
    `DRAIN_S`."""
    environ = os.environ if config_file else {DRAIN: str(DRAIN_S), **os.environ}
    file = Path(config_file) if config_file else None
    return load(file, environ, data_dir=settings.STROEM.data_dir).drain_secs


def check_worker_file(file: str | None) -> None:
    """Raises WorkerConfigError for settings that a worker would refuse, before anything starts."""
    load(Path(file) if file else None, os.environ, data_dir=settings.STROEM.data_dir)


def _answers(host: str, port: int) -> bool:
    """True for any answer below 500: even a refusal shows that the server works."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
