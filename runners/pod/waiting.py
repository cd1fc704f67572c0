"""A pod that has not started: what it waits for, and for how long it may."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from runners.pod.answers import ClusterAway, Refused
from runners.pod.cluster import Cluster
from runners.pod.config import PodConfig
from runners.pod.status import Sight

FIRST_EVENTS_S, EVENTS_S = 2.0, 5.0
MOST_LINES = 20
# every pod passes through these; others that are not warnings say nothing new
_ORDINARY = frozenset({"", "ContainerCreating", "PodInitializing"})
_NOTABLE = frozenset({"Pulling", "TriggeredScaleUp", "NotTriggerScaleUp"})
_FRUITLESS = "check events for details: missing volumes, unschedulable, etc."


class Waiting:
    """Tells what a pod waits for, from its status and its events (if the account may read them)."""

    def __init__(
        self, cluster: Cluster, config: PodConfig, pod_uid: str, say: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._config = config
        self._uid = pod_uid
        self._say = say
        self._began = time.monotonic()
        self._next_events = self._began + FIRST_EVENTS_S
        self._pull_trouble_since: float | None = None
        self._said: set[str] = set()
        self._warning = ""  # the newest

    def look(self, sight: Sight) -> float:
        """Tell what is new; returns the seconds until the next look, 0 or less when the pod has
        waited too long."""
        if sight.reason not in _ORDINARY:
            self._tell(sight.reason)
        now = time.monotonic()
        left = self._began + self._config.pending_timeout_s - now
        if sight.is_pull_problem:
            self._pull_trouble_since = self._pull_trouble_since or now
            left = min(left, self._pull_trouble_since + self._config.image_timeout_s - now)
        else:
            self._pull_trouble_since = None
        if now >= self._next_events or left <= 0:
            self._read_events()
            self._next_events = time.monotonic() + EVENTS_S
        return min(left, self._next_events - time.monotonic())

    def give_up(self, sight: Sight) -> Sight:
        waited_s = time.monotonic() - self._began
        known = "" if sight.reason in _ORDINARY and self._warning else sight.reason
        parts = [known, self._warning if self._warning not in known else ""]
        reason = "; ".join(filter(None, parts)) or _FRUITLESS
        if sight.is_pull_problem:
            return Sight("broken", reason)
        return Sight("broken", f"Pod stuck in Pending state for {waited_s:.0f}s ({reason})")

    def _read_events(self) -> None:
        try:
            events = self._cluster.list_events(self._uid)
        except (Refused, ClusterAway):
            return  # the status tells something too
        for event in sorted(events, key=_read_time):
            told = f"{event.get('reason')}: {event.get('message')}"
            if event.get("type") == "Warning":
                self._warning = told
            elif event.get("reason") not in _NOTABLE:
                continue
            self._tell(told)

    def _tell(self, reason: str) -> None:
        message = reason.partition(": ")[2] or reason  # status and events have names of their own
        if message in self._said or len(self._said) >= MOST_LINES:
            return
        self._said.add(message)
        self._say(f"Pod is waiting: {reason}")


def _read_time(event: Mapping[str, Any]) -> str:
    times: Iterable[Any] = (event.get(key) for key in ("lastTimestamp", "eventTime"))
    return next((str(time) for time in times if time), "")
