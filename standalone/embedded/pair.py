"""A database and a broker that end with the process, for `run` and the tests."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

from standalone.embedded import postgres, prepared, valkey
from standalone.embedded.folders import temporary_folders
from standalone.supervision.lifeline import Lifeline
from standalone.supervision.program import Child, Program


@dataclass(frozen=True, slots=True)
class Addresses:
    db_url: str = field(repr=False)
    broker_url: str


class TemporaryServer(ABC):
    """A server in a directory that is removed with it.

    Its address (`url`) is known before it starts. `start` waits until it answers, `begin` does not.
    """

    url: str

    def __init__(self, lifeline: Lifeline) -> None:
        self.folder, self.sockets = temporary_folders(lifeline)
        self._lifeline = lifeline
        self._child: Child | None = None

    @abstractmethod
    def program(self) -> Program: ...

    def begin(self) -> Child:
        self._child = self._lifeline.spawn(self.program())
        return self._child

    def start(self) -> str:
        """Returns the address once the server answers."""
        (self._child or self.begin()).wait_until_ready()
        return self.url

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop()
            self._child = None
        for folder in (self.folder, self.sockets):
            shutil.rmtree(folder, ignore_errors=True)


class TemporaryDatabase(TemporaryServer):
    """A PostgreSQL without durability. `copy_of` is the folder of a prepared cluster."""

    def __init__(self, lifeline: Lifeline, *, copy_of: Path | None = None) -> None:
        super().__init__(lifeline)
        self.cluster = postgres.Cluster(self.folder, self.sockets)
        if copy_of is not None:
            prepared.copy("password", copy_of, self.cluster)
        else:
            postgres.prepare(self.cluster)
        self.url = self.cluster.url()
        self._copy_of = copy_of

    def program(self) -> Program:
        if self._copy_of is not None:
            prepared.copy("data", self._copy_of, self.cluster)
        log, stop_steps = self.folder / "database.log", postgres.STOP_AT_ONCE
        return postgres.program(self.cluster, log, postgres.FAST_NOT_DURABLE, stop_steps=stop_steps)

    def start(self) -> str:
        super().start()
        if self._copy_of is None:
            postgres.create_database(self.cluster)
        return self.url


class TemporaryBroker(TemporaryServer):
    """A Valkey."""

    def __init__(self, lifeline: Lifeline) -> None:
        super().__init__(lifeline)
        self.doorbell = valkey.Doorbell(self.sockets)
        self.url = self.doorbell.url()

    def program(self) -> Program:
        return valkey.program(self.doorbell, self.folder / "broker.log")


class TemporaryPair:
    """Both, as a context manager that waits until both answer. `addresses` are known before."""

    def __init__(self, lifeline: Lifeline, *, copy_of: Path | None = None) -> None:
        self.database = TemporaryDatabase(lifeline, copy_of=copy_of)
        self.broker = TemporaryBroker(lifeline)
        self.addresses = Addresses(self.database.url, self.broker.url)

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
