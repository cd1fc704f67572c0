"""Runs steps in containers of a Docker engine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, ClassVar

from engine.errors import AuthorError, PlatformError
from engine.orders import ScriptWork, StepOrder, StepOutcome, Verdict
from runners.base import LineSink, StopSignal
from runners.containers.limits import explain_kill
from runners.containers.remote import ComplaintWatch, EndSignal, Underway, carry_out
from runners.containers.script import FILES, TAKEN, build_script_files, check_source, read_input
from runners.docker.config import DockerConfig
from runners.docker.connection import Connection
from runners.docker.errors import EngineFailed, EngineGone, EngineRefused
from runners.docker.frames import FrameStream
from runners.docker.images import Images
from runners.docker.output import ContainerOutput
from runners.docker.replies import CUT, Replies
from runners.docker.request import LABEL, Sources, build_request, name_cache_volume, name_container
from runners.docker.shelves import Shelf
from runners.docker.workspaces import Workspaces
from runners.events import feed_of
from runners.lines import LineFeed

logger = logging.getLogger(__name__)

# how long the engine may take, after the grace period, to end a container
KILL_PATIENCE_S = 2.0
POLL_S = 0.25
SOON_S = 0.25  # a container that ends has usually done so this long after its output


class DockerRunner:
    """One container per attempt, named after it; attempts share only the caches of their
    workspace."""

    needs: ClassVar[frozenset[str]] = frozenset({"docker"})

    def __init__(self, config: DockerConfig) -> None:
        self.config = config
        self.connection = Connection(config.host)
        self.images = Images(self.connection, config)
        self.workspaces = Workspaces(self.connection, config)
        self._underway = Underway()

    def run(self, order: StepOrder, lines: LineSink, stop: StopSignal) -> StepOutcome:
        watch = ComplaintWatch(lines)
        replies = Replies() if order.events is not None else None
        feed = feed_of(order, watch, replies.send if replies is not None else None)
        with self._underway.hold(order.attempt), EndSignal(stop, order.limits) as end_signal:
            outcome = carry_out(_Attempt(self, order, feed, end_signal, replies), feed)
        watch.name_remedy(order, outcome, feed)
        return outcome

    def sweep(self, live: frozenset[str]) -> None:
        """Remove this worker's containers and volumes whose attempts are neither in `live` nor
        under way here.

        An engine that is unreachable or refuses waits for the next sweep: other runners' leftovers
        must not wait for it.
        """
        try:
            found = self._find(f"{LABEL}owner={self.config.owner}")
        except (EngineGone, EngineFailed, EngineRefused) as problem:
            logger.warning("leftovers are left to the next sweep: %s", problem)
        else:
            self.abandon(frozenset(attempt for attempt, _ in found) - live)

    def find_attempts(self) -> frozenset[str]:
        return frozenset(attempt for attempt, _ in self._find())

    def abandon(self, attempts: frozenset[str]) -> None:
        """See RemoteRunner. An engine that is unreachable or refuses waits for the next call."""
        dead = self._underway.without(attempts)
        if not dead:
            return
        try:
            for attempt, remove in self._find():
                if attempt in dead:
                    remove()
        except (EngineGone, EngineFailed, EngineRefused) as problem:
            logger.warning("leftovers are left to the next sweep: %s", problem)

    def _find(self, *labels: str) -> list[tuple[str, Callable[[], None]]]:
        """(attempt, its removal) of each container and each volume, containers first."""
        wanted = {"label": [f"{LABEL}attempt", *labels]}
        containers = self.connection.call("containers", all=True, filters=wanted)
        volumes = self.connection.call("volumes", filters=wanted)["Volumes"] or []
        removals: list[tuple[Any, Callable[[], None]]] = [
            *((one, partial(remove_container, self.connection, one["Id"])) for one in containers),
            *((one, partial(remove_volume, self.connection, one["Name"])) for one in volumes),
        ]
        return [(one["Labels"][f"{LABEL}attempt"], remove) for one, remove in removals]


class _Attempt:
    """One attempt from image to removal. For one thread."""

    def __init__(
        self,
        runner: DockerRunner,
        order: StepOrder,
        feed: LineFeed,
        end_signal: EndSignal,
        replies: Replies | None,
    ) -> None:
        self._config = runner.config
        self._connection = runner.connection
        self._images = runner.images
        self._workspaces = runner.workspaces
        self._shelf = Shelf(runner.connection, order, feed.say)
        self._order = order
        self._feed = feed
        self._end_signal = end_signal
        self._replies = replies
        self._container: str | None = None
        self._volume: str | None = None
        self._was_created = False

    def run(self) -> StepOutcome:
        image = self._choose_image()
        work = self._order.work
        if isinstance(work, ScriptWork) and (note := check_source(work)):
            self._feed.say(note)
        image_id = (
            self._images.ensure(image, self._order.container, self._feed, self._end_signal)
            if self._end_signal.cause is None
            else None
        )
        if image_id is None or self._end_signal.cause is not None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        self._create(image, image_id)
        if self._end_signal.cause is not None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        stream = self._connection.attach(self._require(), with_input=self._replies is not None)
        if self._replies is not None:
            self._replies.stream = stream
        try:
            self._start()
            self._end_signal.when_set(lambda: self._end(stream))
            outcome = self._follow(stream)
        finally:
            stream.close()
        if self._order.state is not None and outcome.verdict is Verdict.SUCCEEDED:
            self._workspaces.fetch_state(self._require(), self._order.state)
        return self._shelf.fetch(self._require(), outcome)

    def remove(self) -> None:
        """Remove the container and its volume; if the engine is unreachable, the next sweep
        does."""
        try:
            if self._was_created:
                remove_container(
                    self._connection, self._container or name_container(self._order.attempt)
                )
            if self._volume is not None:
                remove_volume(self._connection, self._volume)
        except (EngineGone, EngineFailed, EngineRefused) as problem:
            logger.warning(
                "the next sweep removes container %s: %s",
                name_container(self._order.attempt),
                problem,
            )

    def _choose_image(self) -> str:
        work = self._order.work
        if isinstance(work, ScriptWork):
            return work.runner_image or self._config.runner_image
        return work.image

    def _create(self, image: str, image_id: str) -> None:
        work = self._order.work
        files = read_input(self._order)
        if not isinstance(work, ScriptWork):
            bind = self._workspaces.write_files(self._order, image_id, files) if files else None
            taken = self._workspaces.find_taken(self._order, image_id)
            container = self._open(image, Sources(files_bind=bind, taken_bind=taken))
            self._put_shelves(container, Sources(taken_bind=taken))
            if files and bind is None:
                self._workspaces.put_files(
                    container, {f"{FILES}/{name}": text for name, text in files.items()}
                )
            self._put_state(container)
            return
        files |= build_script_files(work, image_id)
        sources = Sources(
            workspace_bind=self._find_bind(work, image_id),
            files_bind=self._workspaces.write_files(self._order, image_id, files),
            startup_bind=self._workspaces.find_startup(self._order, image_id),
            cache_volume=name_cache_volume(self._order, self._config),
            taken_bind=self._workspaces.find_taken(self._order, image_id),
            helper_bind=self._workspaces.find_helper(self._order, image_id),
        )
        must_copy = work.workspace_dir is not None and sources.workspace_bind is None
        if must_copy and work.workspace_mode == "readonly":
            sources = replace(sources, workspace_volume=self._fill_volume(work, image_id))
        container = self._open(image, sources)
        self._put_shelves(container, sources)
        if must_copy and work.workspace_mode == "copy" and work.workspace_dir is not None:
            self._workspaces.copy_tree(
                container, work.workspace_dir, self._order.scratch_dir, is_writable=True
            )
        texts = (
            {} if sources.files_bind else {f"{FILES}/{name}": text for name, text in files.items()}
        )
        texts |= {} if sources.startup_bind else self._workspaces.read_startup()
        if texts:
            self._workspaces.put_files(container, texts)
        self._put_state(container)

    def _open(self, image: str, sources: Sources) -> str:
        request = build_request(self._order, self._config, image, sources)
        self._was_created = True
        self._container = self._create_once(request)
        return self._container

    def _put_state(self, container: str) -> None:
        if self._order.state is not None:
            self._workspaces.put_state(container, self._order.state, self._order.scratch_dir)

    def _put_shelves(self, container: str, sources: Sources) -> None:
        shelves = self._order.shelves
        if shelves is None:
            return
        self._shelf.place(container)
        if shelves.taken is not None and sources.taken_bind is None:
            scratch = self._order.scratch_dir
            self._workspaces.copy_tree(
                container, shelves.taken, scratch, is_writable=False, place=TAKEN
            )

    def _find_bind(self, work: ScriptWork, image_id: str) -> str | None:
        """The workspace's path if it can be mounted directly."""
        if work.workspace_dir is None or work.workspace_mode == "copy":
            return None
        if not self._workspaces.can_bind(work.workspace_dir, self._order, image_id):
            return None
        return str(work.workspace_dir.resolve())

    def _fill_volume(self, work: ScriptWork, image_id: str) -> str:
        assert work.workspace_dir is not None
        self._volume = f"{name_container(self._order.attempt)}-workspace"
        return self._workspaces.fill_volume(self._order, image_id, work.workspace_dir)

    def _create_once(self, request: dict[str, Any]) -> str:
        """The container of this attempt, even when the response to an earlier request was lost."""
        name = name_container(self._order.attempt)
        try:
            platform = self._order.container.platform
            return self._connection.create_container(request, name, platform)
        except EngineRefused as refusal:
            if refusal.status != 409:
                raise
        found = self._connection.call("inspect_container", name)
        if found["State"]["Status"] != "created" or found["Config"]["Labels"] != request["Labels"]:
            raise PlatformError(f"a container {name} already existed; it has been removed")
        return str(found["Id"])

    def _require(self) -> str:
        assert self._container is not None
        return self._container

    def _start(self) -> None:
        try:
            self._connection.call("start", self._require())
        except EngineRefused as refusal:
            message = str(refusal)
            is_missing = "not found" in message or "no such file" in message
            raise _NotStarted(
                f"The container could not be started: {message}", 127 if is_missing else 126
            ) from refusal

    def _end(self, stream: FrameStream) -> None:
        """Stop the container, then kill it; bounded even when the engine does not answer."""
        deadline = time.monotonic() + self._end_signal.grace_s + KILL_PATIENCE_S
        asking = threading.Thread(target=self._ask_to_stop, name="stroem-docker-stop", daemon=True)
        asking.start()
        asking.join(max(deadline - time.monotonic(), 0))
        if asking.is_alive():
            stream.close()

    def _ask_to_stop(self) -> None:
        try:
            self._connection.call("stop", self._require(), timeout=ceil(self._end_signal.grace_s))
        except (EngineGone, EngineFailed, EngineRefused) as problem:
            logger.info("stopping container %s: %s", self._container, problem)

    def _follow(self, stream: FrameStream) -> StepOutcome:
        output = ContainerOutput(
            self._connection, self._require(), self._feed, self._config.log_driver
        )
        output.read(iter(stream))
        while True:
            ended_at = time.monotonic()
            state = self._find_state()
            if state is None or not state["Running"] or self._end_signal.cause is not None:
                break
            if self._replies is not None:
                raise EngineGone(CUT)
            resumed = output.resume()
            self._end_signal.when_set(partial(self._end, resumed))
            output.read_on(resumed)
        if state is not None and not state["Running"] and self._end_signal.cause is None:
            output.complete(is_suspect=time.monotonic() - ended_at > SOON_S)
        self._feed.close()
        if self._end_signal.cause is not None:
            return self._feed.outcome_of_stop(self._end_signal.cause)
        if state is None:
            raise EngineGone(
                "The Docker engine lost the container while the step ran, or became"
                " unreachable itself"
            )
        return self._outcome_of(state, output.gap)

    def _find_state(self) -> dict[str, Any] | None:
        """The container's state once its stream has ended: exited, still running after a moment, or
        None when the container or the engine is gone for good."""
        patience = time.monotonic() + KILL_PATIENCE_S
        while True:
            try:
                state = self._inspect()
            except EngineRefused:
                return None
            except (EngineGone, EngineFailed):
                return self._outlast_outage()
            if not state["Running"] or time.monotonic() > max(patience, self._last_moment()):
                return state
            time.sleep(0.02)

    def _inspect(self) -> dict[str, Any]:
        state: dict[str, Any] = self._connection.call("inspect_container", self._require())["State"]
        return state

    def _last_moment(self) -> float:
        since = self._end_signal.since
        return 0.0 if since is None else since + self._end_signal.grace_s + KILL_PATIENCE_S

    def _outlast_outage(self) -> dict[str, Any] | None:
        """Wait for the engine to return. None unless the container is still running: one that ended
        meanwhile is lost."""
        deadline = time.monotonic() + self._config.engine_grace_s
        while not self._connection.is_alive():
            if time.monotonic() > deadline or self._end_signal.cause is not None:
                return None
            time.sleep(POLL_S)
        try:
            state = self._inspect()
        except (EngineGone, EngineFailed, EngineRefused):
            return None
        return state if state["Running"] else None

    def _outcome_of(self, state: dict[str, Any], gap: str | None) -> StepOutcome:
        exit_code = int(state["ExitCode"])
        if gap is not None and exit_code == 0:
            return self._feed.outcome(
                Verdict.LOST, exit_code, f"{gap}, an OUTPUT line among them; the exit code was 0"
            )
        told = explain_kill(exit_code, self._order.resources, is_known=bool(state.get("OOMKilled")))
        if told:
            return self._feed.outcome(Verdict.FAILED, exit_code, f"Exit code: {exit_code}\n{told}")
        return self._feed.outcome_of(exit_code)


class _NotStarted(AuthorError):
    """The engine refused to start the container. `exit_code` is a shell's: 126 or 127."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def remove_container(connection: Connection, container: str) -> None:
    """Remove a container with its anonymous volumes and wait until it is gone; a missing one is
    fine."""
    for _ in range(40):
        try:
            connection.call("remove_container", container, force=True, v=True)
            return
        except EngineRefused as refusal:
            if refusal.status == 404:
                return
            if refusal.status != 409:
                raise
            time.sleep(POLL_S)  # another removal is under way


def remove_volume(connection: Connection, volume: str) -> None:
    connection.forget_missing(lambda: connection.call("remove_volume", volume, force=True))
