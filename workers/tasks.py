"""A worker's only Celery task: a bell, which names a tag set. Only worker processes include it."""

from __future__ import annotations

from collections.abc import Callable

from celery import shared_task

_ears: list[Callable[[str], None]] = []


def listen(look: Callable[[str], None]) -> None:
    """Call `look` in a slot with the tag set key of every bell."""
    _ears[:] = [look]


@shared_task(name="workers.tasks.look", ignore_result=True)
def look(key: str) -> None:
    """Look for work of this tag set."""
    for ear in _ears:
        ear(key)
