"""A database and a broker that live no longer than one process: for `run` and for the tests."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from stroem_project.embedded import postgres, prepared, valkey
from stroem_project.embedded.folders import temporary_folders
from standalone.supervision.lifeline import Lifeline
from standalone.supervision.program import Child


@dataclass(frozen=True, slots=True)
class Addresses:
    db_url: str = field(repr=False)
    broker_url: str


class TemporaryDatabase:
    """A PostgreSQL in a directory that is removed with it; not durable. `copy_of` is a prepared
    cluster's folder.

    Its address (`url`) is known from the beginning; `begin` does not wait until it answers, `start`
    does.
    """

    def __init__(self, lifeline: Lifeline, *, copy_of: Path | None = None) -> None:
        self.folder, sockets = temporary_folders(lifeline)
        self.cluster = postgres.Cluster(self.folder, sockets)
        if copy_of is not None:
            prepared.copy_password(copy_of, self.cluster)
        else:
            postgres.prepare(self.cluster)
        self.url = self.cluster.url()
        self._copy_of = copy_of
        self._lifeline = lifeline
        self._child: Child | None = None

    def begin(self) -> None:
        if self._copy_of is not None:
            prepared.copy_data(self._copy_of, self.cluster)
        log, ending = self.folder / "database.log", postgres.ENDING_OF_NO_RETURN
        self._child = self._lifeline.spawn(
            postgres.program(self.cluster, log, is_durable=False, ending=ending)
        )

    def start(self) -> str:
        """Its address, once it answers."""
        if self._child is None:
            self.begin()
        assert self._child is not None
        self._child.wait_until_ready()
        if self._copy_of is None:
            postgres.create_database(self.cluster)
        return self.url

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        _remove(self.folder, self.cluster.sockets)


class TemporaryBroker:
    """A Valkey in a directory that is removed with it."""

    def __init__(self, lifeline: Lifeline) -> None:
        self.folder, sockets = temporary_folders(lifeline)
        self.doorbell = valkey.Doorbell(sockets)
        self.url = self.doorbell.url()
        self._lifeline = lifeline
        self._child: Child | None = None

    def begin(self) -> None:
        self._child = self._lifeline.spawn(
            valkey.program(self.doorbell, self.folder / "broker.log")
        )

    def start(self) -> str:
        """Its address, once it answers."""
        if self._child is None:
            self.begin()
        assert self._child is not None
        self._child.wait_until_ready()
        return self.url

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        _remove(self.folder, self.doorbell.sockets)


class TemporaryPair:
    """Both; a context manager that waits until both answer. `addresses` are known from the
    beginning."""

    def __init__(self, lifeline: Lifeline, *, copy_of: Path | None = None) -> None:
        self.database = TemporaryDatabase(lifeline, copy_of=copy_of)
        self.broker = TemporaryBroker(lifeline)
        self.addresses = Addresses(self.database.url, self.broker.url)

    def begin(self) -> None:
        self.database.begin()
        self.broker.begin()

    def __enter__(self) -> Addresses:
        try:
            self.broker.start()
            self.database.start()
            return self.addresses
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
