"""Which runner runs a step on this worker. The Docker and Kubernetes clients are imported with the
first step that needs them: they cost memory and a second of time.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeGuard

from engine.errors import PlatformError, StroemError
from engine.orders import StepOrder, StepOutcome
from runners.base import LineSink, RemoteRunner, Runner, StopSignal
from runners.guard.guard import Guard
from runners.host.local import LocalConfig, LocalRunner

log = logging.getLogger(__name__)
Place = Literal["local", "docker", "pod"]
FindEnded = Callable[[frozenset[str]], frozenset[str]]
_SECTIONS: dict[Place, str] = {"local": "local", "docker": "docker", "pod": "kubernetes"}


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    """A worker's runner settings. This worker lacks a runner whose section is None."""

    owner: str  # the worker's name: identifies its containers and pods
    local: LocalConfig | None = None
    docker: Mapping[str, Any] | None = field(default=None, repr=False)
    kubernetes: Mapping[str, Any] | None = field(default=None, repr=False)
    runner_image: str | None = None


class Catalog:
    """The runners of one worker process, each created once. Thread-safe."""

    def __init__(self, config: CatalogConfig, guard: Guard | None = None) -> None:
        self.config = config
        self._guard = guard
        self._lock = threading.Lock()
        self._made: dict[Place, Runner] = {}
        self._makers: dict[Place, Callable[[], Runner]] = {}
        if config.local is not None:
            self._makers["local"] = self._make_local
        if config.docker is not None:
            self._makers["docker"] = self._make_docker
        if config.kubernetes is not None:
            self._makers["pod"] = self._make_pod

    @property
    def places(self) -> frozenset[Place]:
        """Where this worker can run steps."""
        return frozenset(self._makers)

    def choose(self, action_type: str, runner: str = "local") -> Runner:
        """The runner for an action of this type (`script`, `docker`, `pod`); `runner` counts for
        scripts only."""
        place = runner if action_type == "script" else action_type
        match place:
            case "local":
                return self.get(place)
            case "docker" | "pod":
                found = self.get(place)
                if self._guard is None:
                    return found
                return (_GuardedDocker if place == "docker" else _GuardedPod)(found, self._guard)
            case _:
                raise PlatformError(
                    f"no runner runs actions of type {action_type!r} with runner {runner!r}"
                )

    def get(self, place: Place) -> Runner:
        with self._lock:
            if place not in self._made:
                if place not in self._makers:
                    raise PlatformError(
                        f"this worker runs no steps in '{place}': its configuration has no section"
                        f" '{_SECTIONS[place]}'"
                    )
                self._made[place] = self._makers[place]()
            return self._made[place]

    def sweep(self, live: frozenset[str]) -> None:
        """Let runners on this host remove leftovers of dead attempts."""
        if "local" in self._makers:
            self.get("local").sweep(live)

    def sweep_away(self, live: frozenset[str], find_ended: FindEnded) -> None:
        """Remove leftovers of ended attempts on engines and clusters, whichever worker started
        them.

        `find_ended` returns the attempts known to have ended; those of other installations are
        unknown and stay.
        """
        for place in sorted(self._makers):
            runner = self.get(place)
            if _is_remote(runner):
                try:
                    found = runner.find_attempts() - live
                except StroemError as problem:
                    log.info("cannot look for leftovers: %s", problem)
                    continue
                if found:
                    runner.abandon(find_ended(found) - live)

    def abandon(self, place: Place, attempts: frozenset[str]) -> None:
        """End these attempts there and remove their leftovers."""
        runner = self.get(place)
        if attempts and _is_remote(runner):
            runner.abandon(attempts)

    def _make_local(self) -> Runner:
        assert self.config.local is not None
        return LocalRunner(self.config.local, self._guard)

    def _make_docker(self) -> Runner:
        from runners.docker.config import DockerConfig
        from runners.docker.runner import DockerRunner  # see the module's docstring

        config = self.config
        return DockerRunner(
            DockerConfig.from_section(
                config.docker, owner=config.owner, runner_image=config.runner_image
            )
        )

    def _make_pod(self) -> Runner:
        from runners.pod.config import PodConfig
        from runners.pod.runner import PodRunner

        config = self.config
        assert config.kubernetes is not None
        return PodRunner(
            PodConfig.from_section(
                config.kubernetes, owner=config.owner, runner_image=config.runner_image
            )
        )


class _Guarded:
    """A runner whose attempts the guard watches: the host does not end a container when its worker
    dies."""

    needs: ClassVar[frozenset[str]]
    place: ClassVar[Place]

    def __init__(self, runner: Runner, guard: Guard) -> None:
        self._runner = runner
        self._guard = guard

    def run(self, order: StepOrder, lines: LineSink, stop: StopSignal) -> StepOutcome:
        self._guard.watch_away(self.place, order.attempt)
        try:
            return self._runner.run(order, lines, stop)
        finally:
            self._guard.forget_away(order.attempt)

    def sweep(self, live: frozenset[str]) -> None:
        self._runner.sweep(live)


class _GuardedDocker(_Guarded):
    needs = frozenset({"docker"})
    place = "docker"


class _GuardedPod(_Guarded):
    needs = frozenset({"kubernetes"})
    place = "pod"


def _is_remote(runner: Runner) -> TypeGuard[RemoteRunner]:
    return hasattr(runner, "abandon")
