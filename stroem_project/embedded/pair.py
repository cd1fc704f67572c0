"""A database and a broker that live no longer than one process: for `run` and for the tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from stroem_project.embedded import postgres, prepared, valkey
from stroem_project.embedded.folders import temporary_folders
from stroem_project.supervision.lifeline import Lifeline
from stroem_project.supervision.program import Child


@dataclass(frozen=True, slots=True)
class Addresses:
    db_url: str
    broker_url: str


class TemporaryDatabase:
    """A PostgreSQL in a directory that is removed with it; not durable. `copy_of` is a prepared cluster's folder."""

    def __init__(self, lifeline: Lifeline, *, copy_of: Path | None = None) -> None:
        self.folder, sockets = temporary_folders(lifeline)
        self.cluster = postgres.Cluster(self.folder, sockets)
        if copy_of is not None:
            prepared.copy(copy_of, self.cluster)
        self._lifeline = lifeline
        self._child: Child | None = None

    def start(self) -> str:
        """Its address, once it answers."""
        postgres.prepare(self.cluster)
        log = self.folder / "database.log"
        self._child = self._lifeline.spawn(postgres.program(self.cluster, log, is_durable=False))
        self._child.wait_until_ready()
        postgres.create_database(self.cluster)
        return self.cluster.url()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
        _remove(self.folder, self.cluster.sockets)


class TemporaryBroker:
    """A Valkey in a directory that is removed with it."""

    def __init__(self, lifeline: Lifeline) -> None:
        self.folder, sockets = temporary_folders(lifeline)
        self.doorbell = valkey.Doorbell(sockets)
        self._lifeline = lifeline
        self._child: Child | None = None

    def start(self) -> str:
        """Its address, once it answers."""
        self._child = self._lifeline.spawn(valkey.program(self.doorbell, self.folder / "broker.log"))
        self._child.wait_until_ready()
        return self.doorbell.url()

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
        _remove(self.folder, self.doorbell.sockets)


class TemporaryPair:
    """Both; a context manager that gives their addresses."""

    def __init__(self, lifeline: Lifeline, *, copy_of: Path | None = None) -> None:
        self.database = TemporaryDatabase(lifeline, copy_of=copy_of)
        self.broker = TemporaryBroker(lifeline)

    def __enter__(self) -> Addresses:
        try:
            broker_url = self.broker.start()
            return Addresses(self.database.start(), broker_url)
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.broker.stop()
        self.database.stop()


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
