"""One attempt in a cluster, from its manifest to its removal."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from typing import Any, TypeVar

from engine.errors import AuthorError, PlatformError
from engine.orders import ImageWork, ScriptWork, StepOrder, StepOutcome, Verdict
from runners.containers.remote import EndSignal
from runners.containers.script import check_source
from runners.lines import LineFeed
from runners.pod.answers import ClusterAway, Refused, lacks_a_right
from runners.pod.cluster import Cluster, Outage, patiently
from runners.pod.config import PodConfig
from runners.pod.ending import Ending
from runners.pod.logs import LogFollower, LogSource
from runners.pod.manifest import PodPlan, build_plan
from runners.pod.parcels import SEND_S, STATE_LINES
from runners.pod.policy import FILES_CONTAINER, STEP_CONTAINER
from runners.pod.sharedlog import SharedLog
from runners.pod.states import LeftLines, build_mark
from runners.pod.status import (
    Sight,
    has_running_container,
    is_kept,
    list_started,
    look,
    read_end,
    read_times,
    see_helper,
)
from runners.pod.waiting import Waiting
from runners.pod.watching import NUDGE, PodWatch

logger = logging.getLogger(__name__)
T = TypeVar("T")

# patience without progress for the rest of a log: beyond an outage, and of a step that was ended
LOG_PATIENCE_S, SHORT_PATIENCE_S = 30.0, 1.0
REMOVAL_PATIENCE_S = 8.0  # patience for the deletion of a pod before it is forced
FILES_PATIENCE_S = SEND_S + 120.0  # for what the step has left to be sent
_ABOUT_STATE = "Error: "  # how the container that sends begins what it says about state
QUOTA_S = 2.0  # the first pause while a quota is used up
_CURE_LIMITS = "; set `resources` in the action, or the operator defaults in `kubernetes.manifest`"


def with_trouble(outcome: StepOutcome, trouble: str | None) -> StepOutcome:
    """The outcome of a step whose files were not stored."""
    if trouble is None:
        return outcome
    text = f"The artifacts could not be stored: {trouble}"
    if trouble.startswith(_ABOUT_STATE):
        text = f"The state could not be kept: {trouble.removeprefix(_ABOUT_STATE)}"
    if outcome.verdict is Verdict.SUCCEEDED:
        return StepOutcome(Verdict.FAILED, outcome.exit_code, text)
    return replace(outcome, error=f"{outcome.error or ''}\n{text}".strip())


class PodAttempt:
    """One attempt from manifest to removal."""

    def __init__(
        self,
        config: PodConfig,
        cluster: Cluster,
        order: StepOrder,
        log: SharedLog,
        feed: LineFeed,
        end_signal: EndSignal,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._outage = Outage(config.outage_s)
        self._order = order
        self._log = log
        self._feed = feed
        self._end_signal = end_signal
        self._plan: PodPlan | None = None
        self._uid: str | None = None
        self._has_secret = False
        self._was_created = False
        self._followers: dict[str, tuple[LogFollower, LineFeed]] = {}
        self._is_to_be_kept = False
        folders, self._is_image = order.state, isinstance(order.work, ImageWork)
        self._left = None
        if folders is not None:
            self._left = LeftLines(folders, order.scratch_dir, are_counted=self._is_image)

    def run(self) -> StepOutcome:
        if isinstance(self._order.work, ScriptWork):
            check_source(self._order.work)
        self._plan = build_plan(self._order, self._config)
        if self._end_signal.cause is not None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        pod = self._create(self._plan)
        if pod is None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        return self._watch(pod)

    def _watch(self, pod: dict[str, Any]) -> StepOutcome:
        assert self._plan is not None
        watch = PodWatch(
            self._cluster, self._config, self._plan.name, pod, self._feed.say, self._outage
        )
        watch.start()
        self._end_signal.when_set(watch.nudge)
        patience_s = SHORT_PATIENCE_S
        try:
            sight = self._follow(watch, pod)
            if not self._has_to_end():
                patience_s = self._config.outage_s + LOG_PATIENCE_S
            if self._end_signal.cause is not None and sight.stage in ("waiting", "running"):
                self._end(watch)
            trouble = self._await_files(watch, sight)
        finally:
            watch.close()
            self._finish_logs(patience_s)
        has_ended = sight.stage == "ended"
        follower, _ = self._followers.get(STEP_CONTAINER, (None, None))
        is_known = has_ended and follower is not None and follower.is_whole
        if self._end_signal.cause is not None and not is_known:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        ending = Ending(self._order, self._feed, self._log, follower)
        outcome = with_trouble(ending.conclude(sight), trouble)
        if self._left is not None and outcome.verdict is Verdict.SUCCEEDED:
            self._left.unpack()
        self._is_to_be_kept = has_ended and outcome.verdict is Verdict.FAILED
        return outcome

    def remove(self) -> None:
        """Remove pod and secret and wait until they are gone; if the cluster is unreachable, the
        next sweep does."""
        if self._left is not None:
            self._left.close()
        if self._plan is None:
            return
        name = self._plan.name
        try:
            if self._was_created and not self._is_kept(name):
                self._remove_pod(name)
            if self._has_secret:
                patiently(lambda: self._cluster.delete("secret", name), self._outage)
        except (ClusterAway, Refused) as problem:
            logger.warning("pod %s is left to the next sweep: %s", name, problem)

    def _is_kept(self, name: str) -> bool:
        if not self._is_to_be_kept or not self._config.keep_failed_s:
            return False
        pod = patiently(lambda: self._cluster.get_pod(name), self._outage)
        if pod is None or not is_kept(pod, time.time()):
            return False
        namespace = self._config.namespace
        self._feed.say(
            f"The pod stays for {self._config.keep_failed_s:.0f} s:"
            f" kubectl -n {namespace} describe pod {name}"
        )
        return True

    def _create(self, plan: PodPlan) -> dict[str, Any] | None:
        """The created pod; None when the attempt had to end before."""
        manifest = plan.pod
        if plan.secret is not None and not self._create_secret(plan.secret):
            if self._has_to_end():
                return None
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
            pod = self._create_in_room(create)
        except ClusterAway:
            if self._end_signal.cause is not None:
                return None
            raise
        except Refused as refusal:
            cure = _CURE_LIMITS if "must specify" in str(refusal) else ""
            raise AuthorError(f"The pod was not accepted: {refusal}{cure}") from refusal
        if pod is not None:
            self._uid = str(pod["metadata"]["uid"])
        return pod

    def _create_in_room(self, create: Callable[[], T]) -> T | None:
        """Create something as soon as the namespace's quota has room for it; None when the attempt
        had to end before."""
        began, delay = time.monotonic(), QUOTA_S
        has_told = False
        while True:
            try:
                return patiently(create, self._outage, self._has_to_end)
            except Refused as refusal:
                if not refusal.is_lack_of_room:
                    raise
                if not has_told:
                    self._feed.say(f"Pod is waiting for room: {refusal}")
                    has_told = True
                waited_s = time.monotonic() - began
                left = self._config.pending_timeout_s - waited_s
                if left <= 0:
                    raise AuthorError(
                        f"There was no room for the pod for {waited_s:.0f}s: {refusal}"
                    ) from refusal
                if self._end_signal.wait(min(delay, left)):
                    return None
                delay = min(delay * 1.5, 10.0)

    def _has_to_end(self) -> bool:
        return self._end_signal.cause is not None

    def _create_secret(self, secret: dict[str, Any]) -> bool:
        """False when the worker's account may not make secrets, or when the attempt had to end."""
        try:
            if self._create_in_room(lambda: self._cluster.create("secret", secret)) is None:
                return False
        except Refused as refusal:
            if refusal.status == 403 and lacks_a_right(str(refusal)):
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
        waiting = Waiting(self._cluster, self._config, str(self._uid), self._feed.say)
        while True:
            sight = look(pod)
            self._follow_logs(pod)
            if sight.stage == "running" and self._order.helper is not None:
                sight = see_helper(pod, sight)
                if sight.stage == "broken":
                    self._end(watch)
            if sight.stage in ("ended", "lost", "broken") or self._has_to_end():
                return sight
            patience = waiting.look(sight) if sight.stage == "waiting" else None
            if patience is not None and patience <= 0:
                return waiting.give_up(sight)
            try:
                news = watch.news.get(timeout=patience)
            except queue.Empty:
                continue
            if news is None:
                gone = Sight("lost", "the pod was deleted by another party")
                return sight if self._has_to_end() else gone
            if isinstance(news, Exception):
                raise news
            if news is not NUDGE:
                pod = news

    def _await_files(self, watch: PodWatch, sight: Sight) -> str | None:
        """Wait until what the step left has been sent; why it was not, if so."""
        assert self._plan is not None
        shelves, name = self._order.shelves, self._plan.name
        is_wanted = sight.exit_code == 0 or (shelves is not None and shelves.on_failure)
        if shelves is None or shelves.parcel is None or sight.stage != "ended" or not is_wanted:
            return None
        if shelves.tell_end is not None and sight.exit_code is not None:
            shelves.tell_end(sight.exit_code)
        deadline = time.monotonic() + FILES_PATIENCE_S
        pod = patiently(lambda: self._cluster.get_pod(name), self._outage)
        while pod is not None and not self._has_to_end():
            self._follow_logs(pod)
            if (ended := read_end(pod, FILES_CONTAINER)) is not None:
                told = str(ended.get("message") or "").strip()
                if self._left is not None and told.startswith(STATE_LINES):
                    self._left.expected = int(told.removeprefix(STATE_LINES))
                return None if ended.get("exitCode") == 0 else told or "their container has failed"
            try:
                news = watch.news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                return f"they were not sent within {FILES_PATIENCE_S:.0f} s"
            if isinstance(news, Exception):
                raise news
            if news is not NUDGE:
                pod = news
        return "the pod was deleted before they were sent"

    def _follow_logs(self, pod: dict[str, Any]) -> None:
        assert self._plan is not None
        for name in list_started(pod):
            if name in self._followers:
                continue
            feed = self._feed
            if name != STEP_CONTAINER:
                feed = LineFeed(self._log.label(name), self._order.limits, self._order.secrets)
            has_record = name == STEP_CONTAINER and not self._is_image
            brings_state = name == (FILES_CONTAINER if self._is_image else STEP_CONTAINER)
            follower = LogFollower(
                self._cluster,
                self._config,
                LogSource(
                    self._plan.name,
                    name,
                    self._plan.end_mark if has_record else None,
                    *read_times(pod, name),
                    aside_mark=build_mark(self._order.attempt) if brings_state else None,
                ),
                feed,
                self._order.limits,
                self._order.scratch_dir,
                *([self._left.take] if self._left is not None and brings_state else []),
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
                lambda: self._cluster.delete("pod", name, max(1, ceil(grace)), self._uid),
                Outage(2.0),
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
        """Read and tell what is left, as long as it comes; `patience_s` without progress end it."""
        for name, (follower, _) in self._followers.items():
            follower.finish(is_running=name != STEP_CONTAINER)
        for name, (follower, feed) in self._followers.items():
            if not self._await_rest(follower, patience_s):
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
            if follower.is_away:  # what comes now does not wait as long again
                self._outage = Outage(0.0)
            if feed is not self._feed:
                feed.close()
        self._feed.close()

    def _await_rest(self, follower: LogFollower, patience_s: float) -> bool:
        deadline, seen = time.monotonic() + patience_s, follower.progress
        while not follower.join(0.2):
            now = time.monotonic()
            if follower.progress != seen and not self._has_to_end():
                deadline, seen = now + patience_s, follower.progress
            if now > deadline:
                return False
            if self._has_to_end():
                deadline = min(deadline, now + SHORT_PATIENCE_S)
        return True

    def _remove_pod(self, name: str) -> None:
        patiently(lambda: self._cluster.delete("pod", name, 1, self._uid), self._outage)
        if self._is_gone(name, REMOVAL_PATIENCE_S):
            return
        patiently(lambda: self._cluster.delete("pod", name, 0, self._uid), self._outage)
        if not self._is_gone(name, REMOVAL_PATIENCE_S):
            logger.warning("pod %s is not gone yet; the next sweep tries again", name)

    def _is_gone(self, name: str, patience_s: float) -> bool:
        deadline, delay = time.monotonic() + patience_s, 0.05
        while True:
            pod = patiently(lambda: self._cluster.get_pod(name), self._outage)
            if pod is None or (self._uid is not None and pod["metadata"]["uid"] != self._uid):
                return True
            if time.monotonic() > deadline:
                return (
                    not has_running_container(pod)
                    and pod["metadata"].get("deletionTimestamp") is not None
                )
            time.sleep(delay)
            delay = min(delay * 2, 0.5)
