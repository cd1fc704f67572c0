"""The one event loop of this process: the connections of the libraries belong to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError
from functools import lru_cache
from typing import Any, TypeVar

from runners.agents.errors import Stopped
from runners.base import StopSignal

T = TypeVar("T")
_GRACE_S = 5.0  # for the library's own time-out to come first


@lru_cache(maxsize=1)
def the_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="models", daemon=True).start()
    return loop


def run(
    work: Coroutine[Any, Any, T], stop: StopSignal, timeout_s: float, grace_s: float = _GRACE_S
) -> T:
    """Await `work` from another thread. Raises Stopped when `stop` was set, and TimeoutError."""

    async def limited() -> T:
        return await asyncio.wait_for(work, timeout_s + grace_s)

    future = asyncio.run_coroutine_threadsafe(limited(), the_loop())

    def give_up() -> None:
        future.cancel()

    stop.on_set(give_up)
    try:
        return future.result()
    except CancelledError:
        raise Stopped from None
