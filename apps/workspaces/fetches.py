"""Fetches from stores of secrets: equal ones at the same time share one, a failure is told again
for a while, and a thread that must not wait is told to come back for the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from apps.workspaces.errors import SecretsPending

FAILURE_S = 10.0  # how long a failure is told again before the store is asked again


@dataclass(slots=True)
class _Fetch:
    answer: Future[Any] = field(default_factory=Future)
    ended_at: float = 0.0


_lock = threading.Lock()
_known: dict[Hashable, _Fetch] = {}
_here = threading.local()


def never_wait() -> None:
    """This thread does work for all workspaces: it gets SecretsPending instead of waiting."""
    _here.never_waits = True


def fetched(key: Hashable, work: Callable[[], Any]) -> Any:
    """What `work` returns or raises."""
    never_waits = getattr(_here, "never_waits", False)
    with _lock:
        found = _known.get(key)
        is_new = found is None or _is_stale(found)
        if found is None or is_new:
            for other in [other for other, fetch in _known.items() if _is_stale(fetch)]:
                del _known[other]
            found = _known[key] = _Fetch()
    if is_new and never_waits:
        threading.Thread(target=_do, args=(found, work), daemon=True).start()
    elif is_new:
        _do(found, work)
    if never_waits and not found.answer.done():
        raise SecretsPending("its secrets are being fetched; it is looked at again in a moment")
    try:
        return found.answer.result()
    finally:
        with _lock:
            if _known.get(key) is found and found.answer.exception() is None:
                del _known[key]


def forget() -> None:
    with _lock:
        _known.clear()


def _do(fetch: _Fetch, work: Callable[[], Any]) -> None:
    try:
        answer = work()
    except Exception as error:  # noqa: BLE001  (whoever asked raises it)
        fetch.ended_at = time.monotonic()
        fetch.answer.set_exception(error)
    else:
        fetch.ended_at = time.monotonic()
        fetch.answer.set_result(answer)


def _is_stale(fetch: _Fetch) -> bool:
    return fetch.ended_at > 0 and time.monotonic() - fetch.ended_at > FAILURE_S
