"""Runs steps in pods of a Kubernetes cluster."""

from __future__ import annotations

import logging
import threading
import time
from typing import ClassVar

from engine.orders import StepOrder, StepOutcome
from runners.base import LineSink, StopSignal
from runners.containers.remote import ComplaintWatch, EndSignal, Underway, carry_out
from runners.events import feed_of
from runners.pod.answers import ClusterAway, Refused
from runners.pod.attempt import PodAttempt
from runners.pod.cluster import Cluster
from runners.pod.config import PodConfig
from runners.pod.manifest import name_pod, sanitise_label
from runners.pod.policy import OUR_LABELS, STEP_CONTAINER
from runners.pod.sharedlog import SharedLog
from runners.pod.status import is_kept

logger = logging.getLogger(__name__)


class PodRunner:
    """One pod per attempt, named after it, with a secret beside it if the account may create
    one."""

    needs: ClassVar[frozenset[str]] = frozenset({"kubernetes"})

    def __init__(self, config: PodConfig) -> None:
        self.config = config
        self.cluster = Cluster(config)
        self._underway = Underway()
        self._blind: set[str] = set()
        self._lock = threading.Lock()

    def run(self, order: StepOrder, lines: LineSink, stop: StopSignal) -> StepOutcome:
        watch = ComplaintWatch(lines)
        log = SharedLog(watch)
        feed = feed_of(order, log.keep_tail(STEP_CONTAINER))
        with self._underway.hold(order.attempt), EndSignal(stop, order.limits) as end_signal:
            attempt = PodAttempt(self.config, self.cluster, order, log, feed, end_signal)
            outcome = carry_out(attempt, feed)
        watch.name_remedy(order, outcome, feed)
        return outcome

    def sweep(self, live: frozenset[str]) -> None:
        """Remove this worker's pods and secrets whose attempts are neither in `live` nor under way
        here.

        Needs the verb list on pods and secrets; without it leftovers stay until someone cleans the
        namespace.
        """
        self.abandon(self._find(f"{OUR_LABELS}owner={sanitise_label(self.config.owner)}") - live)

    def find_attempts(self) -> frozenset[str]:
        return self._find("app=stroem-step")

    def abandon(self, attempts: frozenset[str]) -> None:
        """See RemoteRunner. Works by name: that needs no right to list. An unreachable cluster
        waits for the next call."""
        for name in map(name_pod, self._underway.without(attempts)):
            try:
                self.cluster.delete("pod", name, grace_s=1)
                self.cluster.delete("secret", name)
            except (Refused, ClusterAway) as problem:
                logger.warning("pod %s is left to the next sweep: %s", name, problem)

    def _find(self, selector: str) -> frozenset[str]:
        found = set()
        for kind in ("pod", "secret"):
            try:
                for thing in self.cluster.list(kind, selector):
                    if kind == "pod" and is_kept(thing, time.time()):
                        continue
                    found.add(str(thing["metadata"]["labels"].get(f"{OUR_LABELS}attempt")))
            except (Refused, ClusterAway) as problem:
                self._note_blindness(kind, problem)
        return frozenset(found)

    def _note_blindness(self, kind: str, problem: Exception) -> None:
        """Log once per kind: sweeps repeat."""
        with self._lock:
            is_new = kind not in self._blind
            self._blind.add(kind)
        if is_new:
            logger.warning(
                "cannot look for leftover %ss (that needs the verb list): %s", kind, problem
            )
