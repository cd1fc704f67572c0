"""The platform for one `run`: a private database and broker, a conductor and a worker, all removed
at the end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import django
from django.apps import apps
from django.conf import settings
from django.db import connections

from standalone import addresses, preparation
from standalone.embedded import prepared
from standalone.embedded.pair import TemporaryPair
from standalone.embedded.postgres import keep_only
from standalone.programs import agents_program, worker_program
from standalone.supervision.lifeline import Lifeline
from standalone.supervision.program import Child, Program

WORKER_STOPS_WITHIN_S = 3.0


@contextmanager
def private_house(worker_config: str | None, *, has_agents: bool = False) -> Iterator[Child]:
    """Start private servers and point this process at them until the end; yields the worker. Use it
    once per process. `has_agents`: also start the process for agents."""
    settings.FORGET_OTHER_DATABASES()
    lifeline = Lifeline()
    pair: TemporaryPair | None = None
    try:
        pair = TemporaryPair(lifeline, copy_of=prepared.cluster_for(_key(), lifeline, _fill))
        folder = pair.database.folder
        addresses.use(pair.addresses.db_url, pair.addresses.broker_url, folder / "data")
        _allow_libraries()
        # it takes longer to start than the database
        worker = lifeline.spawn(_worker(folder, worker_config))
        agents = lifeline.spawn(agents_program(folder / "log")) if has_agents else None
        with pair, _conductor():
            try:
                yield worker
            except BaseException:
                worker.stop(WORKER_STOPS_WITHIN_S)
                raise
            worker.stop(within_s=0)  # no step is running
            if agents is not None:
                agents.stop(within_s=0)
    finally:
        addresses.hang_up()
        if pair is not None:
            pair.stop()
        lifeline.close()


def _allow_libraries() -> None:
    """Who runs a task at their own machine may read whatever they can read: the settings of a
    server bind those who only write files for it."""
    known = settings.STROEM
    settings.STROEM = replace(known, libraries={**known.libraries, **settings.ANY_LIBRARY()})


def _key() -> str:
    """Changes whenever the tables may change."""
    parts = [django.__version__, Path(__file__).read_text()]
    for app in apps.get_app_configs():
        for file in sorted(Path(app.path).glob("migrations/*.py")):
            parts += [app.label, file.name, file.read_text()]
    return prepared.key_of(*parts)


def _fill(db_url: str) -> None:
    addresses.use(db_url, os.environ.get("STROEM__BROKER__URL", "redis://unused"))
    try:
        preparation.migrate()
    finally:
        addresses.hang_up()
    keep_only(db_url)


def _worker(folder: Path, worker_config: str | None) -> Program:
    program = worker_program(folder / "log", worker_config, drain_s=0)
    return replace(program, stop_steps=((signal.SIGTERM, WORKER_STOPS_WITHIN_S),))


@contextmanager
def _conductor() -> Iterator[None]:
    """Run the scheduler's rounds in a thread."""
    from apps.conductor import partitions, services

    partitions.prepare()
    stop = threading.Event()

    def run() -> None:
        try:
            services.run_forever(stop, is_trial=True)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run, name="conductor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
