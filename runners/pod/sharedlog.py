"""One log for all containers of a pod."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace

from engine.orders import Line
from runners.base import LineSink

TAIL_LINES = 20
TAIL_CHARS = 4096


class SharedLog:
    """Lets the threads of several containers share the caller's sink; keeps the last lines of
    each."""

    def __init__(self, sink: LineSink) -> None:
        self._sink = sink
        self._lock = threading.Lock()
        self._tails: dict[str, deque[str]] = {}

    def keep_tail(self, container: str, label: str = "") -> LineSink:
        tail = self._tails.setdefault(container, deque(maxlen=TAIL_LINES))

        def tell(line: Line) -> None:
            with self._lock:
                if line.stream != "server":
                    tail.append(line.text)
                self._sink(replace(line, text=label + line.text) if label else line)

        return tell

    def label(self, container: str) -> LineSink:
        """A sink for another container than the step's: its lines name the container."""
        return self.keep_tail(container, f"[{container}] ")

    def read_tail(self, container: str) -> str:
        return "\n".join(self._tails.get(container, ()))[-TAIL_CHARS:]
