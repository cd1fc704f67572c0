"""Which runner does a step on this worker. Docker's and Kubernetes' clients are imported with the first step that
needs them, never before: they cost memory and a second of time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.errors import PlatformError
from runners.base import Runner
from runners.guard import Guard
from runners.local import LocalConfig, LocalRunner

Place = Literal["local", "docker", "pod"]
_SECTIONS: dict[Place, str] = {"local": "local", "docker": "docker", "pod": "kubernetes"}


@dataclass(frozen=True, slots=True)
class CatalogConfig:
    """What a worker's settings say about runners. A section that is None is a runner that this worker lacks."""

    owner: str  # the worker's name: containers and pods are told apart by it
    local: LocalConfig | None = None
    docker: Mapping[str, Any] | None = field(default=None, repr=False)
    kubernetes: Mapping[str, Any] | None = field(default=None, repr=False)
    runner_image: str | None = None


class Catalog:
    """The runners of one worker process, each made once. Every method may be called from any thread."""

    def __init__(self, config: CatalogConfig, guard: Guard | None = None) -> None:
        self._config = config
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
        """The runner for an action of this type (`script`, `docker`, `pod`) and, for scripts, this `runner`."""
        place = runner if action_type == "script" else action_type
        match place:
            case "local" | "docker" | "pod":
                return self.get(place)
            case _:
                raise PlatformError(f"no runner does actions of type {action_type!r} with runner {runner!r}")

    def get(self, place: Place) -> Runner:
        """The runner that runs steps there."""
        with self._lock:
            if place not in self._made:
                if place not in self._makers:
                    raise PlatformError(
                        f"this worker runs no steps in '{place}': its configuration has no section '{_SECTIONS[place]}'"
                    )
                self._made[place] = self._makers[place]()
            return self._made[place]

    def sweep(self, live: frozenset[str]) -> None:
        """Let every runner that this worker is configured for remove what dead attempts left."""
        for place in sorted(self._makers):
            self.get(place).sweep(live)

    def _make_local(self) -> Runner:
        assert self._config.local is not None
        return LocalRunner(self._config.local, self._guard)

    def _make_docker(self) -> Runner:
        from runners.docker import DockerConfig, DockerRunner  # see the module's docstring

        config = self._config
        return DockerRunner(
            DockerConfig.from_section(config.docker, owner=config.owner, runner_image=config.runner_image)
        )

    def _make_pod(self) -> Runner:
        from runners.pod import PodConfig, PodRunner

        config = self._config
        assert config.kubernetes is not None
        return PodRunner(
            PodConfig.from_section(config.kubernetes, owner=config.owner, runner_image=config.runner_image)
        )
