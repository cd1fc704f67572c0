"""The one task of a worker: a bell rang. Included by worker processes only; a bell names a tag set,
nothing else."""

from __future__ import annotations

from collections.abc import Callable

from celery import shared_task

_ears: list[Callable[[str], None]] = []


def listen(look: Callable[[str], None]) -> None:
    """Have `look` called, in a slot, with the tag set key of every bell."""
    _ears[:] = [look]


@shared_task(name="workers.tasks.look", ignore_result=True)
def look(key: str) -> None:
    """Look for work of this tag set."""
    for ear in _ears:
        ear(key)
