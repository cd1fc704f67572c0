"""Runs steps in pods of a Kubernetes cluster."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from dataclasses import replace
from math import ceil
from typing import Any, ClassVar

from engine.errors import AuthorError, PlatformError
from engine.orders import Line, ScriptWork, StepOrder, StepOutcome, Verdict
from runners.base import LineSink, StopSignal
from runners.containers.limits import explain_kill
from runners.containers.remote import ComplaintWatch, EndSignal, Underway, carry_out
from runners.containers.script import check_source
from runners.lines import LineFeed
from runners.pod.cluster import Cluster, ClusterAway, Refused, patiently
from runners.pod.config import PodConfig
from runners.pod.logs import LogFollower
from runners.pod.manifest import PodPlan, build_plan, name_pod, sanitise_label
from runners.pod.policy import INIT_CONTAINER, OUR_LABELS, STEP_CONTAINER
from runners.pod.status import Sight, has_running_container, list_started, look
from runners.pod.watching import NUDGE, PodWatch

logger = logging.getLogger(__name__)

LOG_PATIENCE_S = 15.0  # patience for the rest of a log once its container has ended
REMOVAL_PATIENCE_S = 8.0  # patience for the deletion of a pod before it is forced
TAIL_LINES = 20
TAIL_CHARS = 4096


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
        log = _SharedLog(watch)
        feed = LineFeed(log.keep_tail(STEP_CONTAINER), order.limits, order.secrets)
        with self._underway.hold(order.attempt), EndSignal(stop, order.limits) as end_signal:
            outcome = carry_out(_Attempt(self, order, log, feed, end_signal), feed)
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


class _Attempt:
    """One attempt from manifest to removal."""

    def __init__(
        self,
        runner: PodRunner,
        order: StepOrder,
        log: _SharedLog,
        feed: LineFeed,
        end_signal: EndSignal,
    ) -> None:
        self._config = runner.config
        self._cluster = runner.cluster
        self._order = order
        self._log = log
        self._feed = feed
        self._end_signal = end_signal
        self._plan: PodPlan | None = None
        self._uid: str | None = None
        self._has_secret = False
        self._was_created = False
        self._followers: dict[str, tuple[LogFollower, LineFeed]] = {}
        self._pull_trouble_since: float | None = None

    def run(self) -> StepOutcome:
        if isinstance(self._order.work, ScriptWork):
            check_source(self._order.work)
        self._plan = build_plan(self._order, self._config)
        if self._end_signal.cause is not None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        pod = self._create(self._plan)
        if pod is None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        watch = PodWatch(self._cluster, self._config, self._plan.name, pod, self._feed.say)
        watch.start()
        self._end_signal.when_set(watch.nudge)
        try:
            sight = self._follow(watch, pod)
            if self._end_signal.cause is not None and sight.stage in ("waiting", "running"):
                self._end(watch)
        finally:
            watch.close()
            self._finish_logs(patience_s=LOG_PATIENCE_S if self._end_signal.cause is None else 1.0)
        if self._end_signal.cause is not None and sight.stage != "ended":
            return self._feed.outcome_of_stop(self._end_signal.cause)
        return self._outcome_of(sight)

    def remove(self) -> None:
        """Remove pod and secret and wait until they are gone; if the cluster is unreachable, the
        next sweep does."""
        if self._plan is None:
            return
        try:
            if self._was_created:
                self._remove_pod(self._plan.name)
            if self._has_secret:
                name = self._plan.name
                patiently(lambda: self._cluster.delete("secret", name), self._config.outage_s)
        except (ClusterAway, Refused) as problem:
            logger.warning("pod %s is left to the next sweep: %s", self._plan.name, problem)

    def _create(self, plan: PodPlan) -> dict[str, Any] | None:
        """The created pod; None when the attempt had to end before."""
        manifest = plan.pod
        if plan.secret is not None and not self._create_secret(plan.secret):
            manifest = plan.open_pod
        was_unclear = False

        def create() -> dict[str, Any]:
            nonlocal was_unclear
            self._was_created = True
            try:
                return self._cluster.create("pod", manifest)
            except ClusterAway:
                was_unclear = True
                raise
            except Refused as refusal:
                # our own; the response to its creation was lost
                if refusal.status == 409 and was_unclear:
                    pod = self._cluster.get_pod(plan.name)
                    if pod is not None:
                        return pod
                if refusal.status == 409:
                    raise PlatformError(
                        f"a pod {plan.name} already existed; it has been removed"
                    ) from refusal
                raise

        try:
            pod = patiently(
                create, self._config.outage_s, lambda: self._end_signal.cause is not None
            )
        except ClusterAway:
            if self._end_signal.cause is not None:
                return None
            raise
        except Refused as refusal:
            raise AuthorError(f"The pod was not accepted: {refusal}") from refusal
        self._uid = str(pod["metadata"]["uid"])
        return pod

    def _create_secret(self, secret: dict[str, Any]) -> bool:
        """False when the worker's account may not make secrets."""
        try:
            patiently(lambda: self._cluster.create("secret", secret), self._config.outage_s)
        except Refused as refusal:
            if refusal.status == 403:
                self._feed.say(
                    "The worker's account may not create secrets in namespace"
                    f" {self._config.namespace!r} (missing verbs: create and delete on secrets):"
                    " environment variables are stored in the pod itself"
                )
                return False
            if refusal.status != 409:
                raise AuthorError(
                    f"The step's environment was not accepted: {refusal}"
                ) from refusal
        self._has_secret = True
        return True

    def _follow(self, watch: PodWatch, pod: dict[str, Any]) -> Sight:
        """Watch until the step has ended, can no longer succeed, or has to be ended."""
        began = time.monotonic()
        sight = Sight("waiting")
        while True:
            sight = look(pod)
            self._follow_logs(pod)
            if sight.stage in ("ended", "lost", "broken") or self._end_signal.cause is not None:
                return sight
            patience = self._find_patience(sight, began)
            if patience is not None and patience <= 0:
                return self._give_up(sight, time.monotonic() - began)
            try:
                news = watch.news.get(timeout=patience)
            except queue.Empty:
                continue
            if news is None:
                return (
                    sight
                    if self._end_signal.cause is not None
                    else Sight("lost", "the pod was deleted by another party")
                )
            if isinstance(news, Exception):
                raise news
            if news is not NUDGE:
                pod = news

    def _find_patience(self, sight: Sight, began: float) -> float | None:
        """Seconds left for the pod to start its step; None once it has started."""
        if sight.stage != "waiting":
            self._pull_trouble_since = None
            return None
        now = time.monotonic()
        left = began + self._config.pending_timeout_s - now
        if not sight.is_pull_problem:
            self._pull_trouble_since = None
            return left
        if self._pull_trouble_since is None:
            self._pull_trouble_since = now
            self._feed.say(f"Pod is waiting: {sight.reason}")
        return min(left, self._pull_trouble_since + self._config.image_timeout_s - now)

    def _give_up(self, sight: Sight, waited_s: float) -> Sight:
        reason = sight.reason or "check events for details: missing volumes, unschedulable, etc."
        if sight.is_pull_problem:
            return Sight("broken", reason)
        return Sight("broken", f"Pod stuck in Pending state for {waited_s:.0f}s ({reason})")

    def _follow_logs(self, pod: dict[str, Any]) -> None:
        assert self._plan is not None
        for name in list_started(pod):
            if name in self._followers:
                continue
            feed = self._feed
            if name != STEP_CONTAINER:
                feed = LineFeed(self._log.label(name), self._order.limits, self._order.secrets)
            follower = LogFollower(
                self._cluster, self._config, self._plan.name, name, feed, self._order.limits
            )
            self._followers[name] = (follower, feed)
            follower.start()

    def _end(self, watch: PodWatch) -> None:
        """Stop the pod; its last lines are still read. Removal later forces it."""
        assert self._plan is not None
        name, grace = self._plan.name, self._end_signal.grace_s
        deadline = time.monotonic() + grace + 1.0
        try:
            patiently(
                lambda: self._cluster.delete("pod", name, max(1, ceil(grace)), self._uid), 2.0
            )
        except (ClusterAway, Refused) as problem:
            logger.info("stopping pod %s: %s", name, problem)
        while (left := deadline - time.monotonic()) > 0:
            try:
                news = watch.news.get(timeout=left)
            except queue.Empty:
                return
            if news is None or isinstance(news, Exception):
                return
            if news is not NUDGE and look(news).exit_code is not None:
                return

    def _finish_logs(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        for name, (follower, _) in self._followers.items():
            follower.finish(is_running=name != STEP_CONTAINER)
        for name, (follower, feed) in self._followers.items():
            follower.join(max(deadline - time.monotonic(), 0.0))
            if follower.is_alive():
                follower.close()
                follower.join(2.0)
                self._feed.say(
                    f"The end of the log of container {name!r} could not be read in time"
                )
            if follower.missing_right:
                self._feed.say(
                    "The worker's account may not read logs in namespace"
                    f" {self._config.namespace!r} (missing verb: get on pods/log): the lines of"
                    f" container {name!r}, and any OUTPUT in them, are not known"
                )
            if feed is not self._feed:
                feed.close()
        self._feed.close()

    def _outcome_of(self, sight: Sight) -> StepOutcome:
        match sight.stage:
            case "lost":
                return self._feed.outcome(
                    Verdict.LOST, sight.exit_code, f"The pod was taken away: {sight.reason}"
                )
            case "broken":
                tail = self._log.read_tail(INIT_CONTAINER)
                error = (
                    f"{sight.reason}\n{tail}"
                    if sight.exit_code is not None and tail
                    else sight.reason
                )
                return self._feed.outcome(Verdict.FAILED, sight.exit_code, error)
            case _:
                return self._outcome_of_end(sight)

    def _outcome_of_end(self, sight: Sight) -> StepOutcome:
        exit_code = sight.exit_code if sight.exit_code is not None else -1
        outcome = self._feed.outcome_of(exit_code)
        if exit_code == 0 or self._feed.output.error is not None:
            return outcome
        error = f"Exit code: {exit_code}"
        if told := explain_kill(exit_code, self._order.resources, is_known=sight.is_out_of_memory):
            error += f"\n{told}"
        elif sight.reason not in ("", "Error", "Completed"):
            error += f"\nContainer terminated: {sight.reason}"
        tail = self._log.read_tail(STEP_CONTAINER)
        return replace(outcome, error=f"{error}\nLast lines: {tail}" if tail else error)

    def _remove_pod(self, name: str) -> None:
        patiently(lambda: self._cluster.delete("pod", name, 1, self._uid), self._config.outage_s)
        if self._is_gone(name, REMOVAL_PATIENCE_S):
            return
        patiently(lambda: self._cluster.delete("pod", name, 0, self._uid), self._config.outage_s)
        if not self._is_gone(name, REMOVAL_PATIENCE_S):
            logger.warning("pod %s is not gone yet; the next sweep tries again", name)

    def _is_gone(self, name: str, patience_s: float) -> bool:
        deadline, delay = time.monotonic() + patience_s, 0.05
        while True:
            pod = patiently(lambda: self._cluster.get_pod(name), self._config.outage_s)
            if pod is None or (self._uid is not None and pod["metadata"]["uid"] != self._uid):
                return True
            if time.monotonic() > deadline:
                return (
                    not has_running_container(pod)
                    and pod["metadata"].get("deletionTimestamp") is not None
                )
            time.sleep(delay)
            delay = min(delay * 2, 0.5)


class _SharedLog:
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
