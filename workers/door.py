"""What a worker needs of the platform, as types: the ledger, and the bells. Tests put theirs behind the same door."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from django.db import InterfaceError, OperationalError

from apps.jobs.ledger import Claim, Material, Renewal, Report, Settled, TagSetRef
from engine.orders import Line

OUTAGES = (OperationalError, InterfaceError)
"""The database did not answer: the same call may be made again, as each of them may be repeated."""


class Ledger(Protocol):
    """The functions of `apps.jobs.ledger`."""

    def register(
        self,
        *,
        name: str,
        tags: Sequence[str],
        slots: int,
        version: str,
        offers: Mapping[str, Any] | None = None,
        job_id: UUID | None = None,
    ) -> UUID: ...

    def covered(self, tags: Collection[str]) -> tuple[TagSetRef, ...]: ...

    def claim(self, worker_id: UUID, tag_set_ids: Sequence[int], *, job_id: UUID | None = None) -> Claim | None: ...

    def material(self, claim: Claim) -> Material: ...

    def started(self, claim: Claim, *, input: Any, masks: tuple[str, ...]) -> bool: ...

    def append(self, claim: Claim, seq: int, lines: Sequence[Line]) -> bool: ...

    def renew(self, worker_id: UUID, live: Mapping[int, int], busy: int) -> Renewal: ...

    def finish(
        self,
        report: Report,
        *,
        claim_for: Sequence[int] = (),
        worker_id: UUID | None = None,
        lines: Sequence[Line] = (),
        seq: int = 0,
        job_id: UUID | None = None,
    ) -> Settled: ...

    def ended(self, names: frozenset[str]) -> frozenset[str]: ...

    def give_back(self, claim: Claim) -> None: ...

    def retire(self, worker_id: UUID) -> None: ...

    def released(self) -> None: ...

    def linger(self, is_on: bool) -> None: ...

    def sweep_connections(self) -> None: ...

    def schema_problem(self) -> str | None: ...


class Bells(Protocol):
    """The functions of `apps.jobs.bells`."""

    def ring(self, keys: Mapping[str, int]) -> int: ...

    def queue(self, key: str) -> Any: ...
