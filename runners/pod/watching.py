"""Follows one pod: by watch, or by polling if watching is not allowed."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import urllib3

from runners.pod.answers import ClusterAway, Denied, Refused
from runners.pod.cluster import Cluster, Outage, break_off
from runners.pod.config import PodConfig

WATCH_S = 240
NUDGE = object()


class PodWatch(threading.Thread):
    """Puts every version of the pod into `news`: the pod, None once it is gone, or an exception on
    giving up."""

    def __init__(
        self,
        cluster: Cluster,
        config: PodConfig,
        name: str,
        pod: dict[str, Any],
        say: Callable[[str], None],
        outage: Outage,
    ) -> None:
        super().__init__(name="stroem-pod-watch", daemon=True)
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._cluster = cluster
        self._config = config
        self._pod_name = name
        self._uid = pod["metadata"]["uid"]
        self._version = str(pod["metadata"].get("resourceVersion", ""))
        self._may_watch = True
        self._has_told = False
        self._is_closed = threading.Event()
        self._response: Any = None
        self._say = say
        self._outage = outage

    def nudge(self) -> None:
        """Wake the reader of `news`."""
        self.news.put(NUDGE)

    def close(self) -> None:
        """End the thread, even during a watch."""
        self._is_closed.set()
        break_off(self._response)

    def run(self) -> None:
        delay = 0.2
        while not self._is_closed.is_set():
            began = time.monotonic()
            try:
                self._follow_once()
                self._outage.end()
                delay = 0.2
                if time.monotonic() - began < 0.2:
                    self._is_closed.wait(0.2)  # do not hammer a server that closes at once
            except (Refused, ClusterAway) as problem:
                # the pod was made by this account: it may look at it too
                if isinstance(problem, Refused) and problem.status != 403:
                    self.news.put(problem)
                    return
                retry_after_s = getattr(problem, "retry_after_s", None) or 0.0
                pause = max(delay, min(retry_after_s, 30.0))
                if self._outage.note(began) < pause:
                    self.news.put(ClusterAway(str(problem)))
                    return
                self._is_closed.wait(pause)
                delay = min(delay * 2, 5.0)

    def _follow_once(self) -> None:
        """One watch, or one poll."""
        if not self._may_watch:
            self._ask()
            self._is_closed.wait(self._config.poll_s)
            return
        try:
            self._response = self._cluster.watch(self._pod_name, self._version, WATCH_S)
            if not self._version:
                self._ask()  # this watch has no event for a pod that was gone before
            self._read_events(self._response)
        except Denied:
            self._tell_of_polling()
            self._ask()
            self._is_closed.wait(self._config.poll_s)
        except Refused as refusal:
            if refusal.status == 410:
                self._begin_anew()
            elif refusal.status in (403, 404, 405):
                self._may_watch = False
                self._tell_of_polling()
            else:
                raise
        finally:
            self._response = None

    def _tell_of_polling(self) -> None:
        """Once, although a denial may pass: the pod may end before that is known."""
        if not self._has_told:
            self._has_told = True
            self._say(
                "The worker's account may not watch pods in namespace"
                f" {self._config.namespace!r} (missing verbs: list and watch on pods); it asks"
                f" every {self._config.poll_s:g} s instead"
            )

    def _read_events(self, response: Any) -> None:
        buffer = b""
        try:
            while chunk := response.read1(1 << 16):
                buffer += chunk
                *lines, buffer = buffer.split(b"\n")
                for line in lines:
                    if line.strip() and not self._take_event(json.loads(line)):
                        return
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            pass  # a broken watch resumes where it ended
        finally:
            response.close()
        if not self._is_closed.is_set():
            self._ask()

    def _take_event(self, event: dict[str, Any]) -> bool:
        """False when the watch has come to its end."""
        thing = event.get("object") or {}
        if event.get("type") == "ERROR":
            if thing.get("code") == 410:
                self._begin_anew()
                return False
            raise ClusterAway(f"The watch broke: {thing.get('message', '')}")
        self._version = str(thing.get("metadata", {}).get("resourceVersion") or self._version)
        if event.get("type") == "BOOKMARK":
            return True
        is_gone = event.get("type") == "DELETED"
        if is_gone:
            self.news.put(thing)  # its last state, then nothing
        self.news.put(None if is_gone else thing)
        return not is_gone

    def _begin_anew(self) -> None:
        """The server no longer knows our version, nor perhaps the pod's own: watch from now on."""
        self._version = ""

    def _ask(self) -> None:
        pod = self._cluster.get_pod(self._pod_name)
        if pod is None or pod["metadata"]["uid"] != self._uid:
            self.news.put(None)
            self._is_closed.wait(self._config.poll_s)
            return
        self.news.put(pod)
