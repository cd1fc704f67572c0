"""A worker in this process, before a ledger in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from apps.jobs import bells
from apps.triggers import ledger as events
from stroem_project import celery_settings
from tests.workers.fakes import FakeGuard, FakeLedger, FakeRunner
from tests.workers.tarballs import tarball
from workers.attempts import Attempts, Presence, Slots, Timing
from workers.bells import Ringer
from workers.config import WorkerConfig
from workers.disk import WorkerDirectory
from workers.execution import Execution
from workers.lane import SLOW_POLL_S, Crew, Lane
from workers.pods import Pins
from workers.process import Worker
from workers.reporting import LogPump
from workers.trees import Scratches, Workspaces


class Bench:
    """A worker and its parts, made of `ledger` and `runner`."""

    def __init__(
        self,
        tmp_path,
        ledger: FakeLedger,
        runner: FakeRunner,
        app,
        *,
        slots: int,
        lease_s: float,
        **config,
    ):
        self.ledger, self.runner = ledger, runner
        self.config = WorkerConfig("bench", tmp_path / "cache", max_concurrent=slots, **config)
        self.guard = FakeGuard()
        self.directory = WorkerDirectory(self.config.workspace_cache_dir, is_shared=False)
        self.attempts, self.slots = Attempts(), Slots(slots)
        self.pump = LogPump(ledger.append, ledger.released)
        self.workspaces = Workspaces(
            self.directory, lambda _: tarball({"a.yaml": "x: 1\n", "s/run.sh": "true\n"})
        )
        timing = Timing.of(lease_s, self.config.stop_grace_secs)
        self.execution = Execution(
            ledger,
            self.workspaces,
            Scratches(self.directory),
            self.pump,
            lambda *_: runner,
            Pins(self.config.server_url, lambda *values: "pass-" + "-".join(map(str, values))),
            events,
            stop_grace_s=self.config.stop_grace_secs,
        )
        self.presence = Presence(
            ledger,
            self.config,
            self.attempts,
            self.guard,
            timing,
            version="0",
            busy=lambda: self.slots.busy,
        )
        ringer = Ringer(bells)
        crew = Crew(ledger, self.presence, self.attempts, ringer, lease_s)
        self.steps = Lane(
            crew, self.slots, self.execution, lambda: ledger.covered(self.config.tags),
            slow_poll_s=self.config.poll_interval_secs or SLOW_POLL_S,
        )  # fmt: skip
        self.worker = Worker(
            self.config,
            ledger,
            bells,
            app,
            self.presence,
            self.attempts,
            self.pump,
            ringer,
            self.steps,
        )
        self.presence.after = self.worker.refresh_tag_sets
        self.is_drained = False

    def start(self) -> Bench:
        assert self.presence.register()
        self.worker.start()
        return self

    def drain(self, wait_s: float = 0.0) -> int:
        self.is_drained = True
        return self.worker.drain(wait_s, threading.Event())


@pytest.fixture
def celery_app(broker_url) -> Iterator[Celery]:
    """An app of this test's own, on the broker of this test process."""
    app = Celery("test", fixups=[], set_as_current=False)
    app.config_from_object(celery_settings)
    app.conf.broker_url = broker_url
    if not broker_url.startswith("amqp"):  # ends the consumer's last wait sooner
        app.conf.broker_transport_options = {
            **celery_settings.broker_transport_options,
            "polling_interval": 0.2,
        }
    yield app
    app.close()


@pytest.fixture
def bench(tmp_path, celery_app) -> Iterator[Callable[..., Bench]]:
    """Makes workers; those that a test leaves running are drained."""
    made: list[Bench] = []

    def make(
        ledger: FakeLedger,
        runner: FakeRunner | None = None,
        *,
        slots=2,
        lease_s=30.0,
        app=celery_app,
        **config,
    ):
        made.append(
            Bench(
                tmp_path,
                ledger,
                runner or FakeRunner(),
                app,
                slots=slots,
                lease_s=lease_s,
                **config,
            )
        )
        return made[-1]

    yield make
    for bench in made:
        if bench.presence.worker_id is not None and not bench.is_drained:
            bench.drain()
        bench.directory.close()
