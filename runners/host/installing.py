"""Installs the dependencies of one attempt's script, by processes that count as the attempt's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from engine.errors import AuthorError
from engine.orders import Limits, Line, StepOrder
from runners.base import LineSink
from runners.host.dependencies import EnvironmentCache, Recipe
from runners.host.environment import User
from runners.host.process import Command, ProcessEnd
from runners.lines import LineFeed

_LOG_BYTES = 1_000_000
Supervise = Callable[[Command, LineFeed], ProcessEnd]


class Interrupted(Exception):
    """The attempt was stopped or timed out before its own process started."""

    def __init__(self, end: ProcessEnd) -> None:
        self.end = end


class Installer:
    """Runs installers for one order. `env` is what they, and compilers, get."""

    def __init__(
        self,
        order: StepOrder,
        user: User | None,
        cache: EnvironmentCache,
        env: Mapping[str, str],
        supervise: Supervise,
        lines: LineSink,
    ) -> None:
        self._order = order
        self._user = user
        self._cache = cache
        self._supervise = supervise
        self._lines = lines
        tools = cache.tools
        self.env: Mapping[str, str] = {
            **env,
            "UV_CACHE_DIR": str(tools / "uv"),
            "BUN_INSTALL_CACHE_DIR": str(tools / "bun"),
            "npm_config_cache": str(tools / "npm"),
            "DENO_DIR": str(tools / "deno"),
            "PIP_CACHE_DIR": str(tools / "pip"),
            "GOCACHE": str(tools / "go-build"),
            "GOPATH": str(tools / "go"),
            "GOTOOLCHAIN": "local",
        }

    def hold(
        self, recipe: Recipe, pause: Callable[[float], None], say: Callable[[str], None]
    ) -> AbstractContextManager[Path]:
        """The environment of `recipe`, made if it is missing. Raises AuthorError, and Interrupted
        as `pause` does."""

        def install(directory: Path) -> None:
            self._install(recipe, directory)

        return self._cache.hold(recipe, install, pause, say)

    def _install(self, recipe: Recipe, directory: Path) -> None:
        """Run the recipe's commands in `directory`; their output becomes server lines, never the
        step's OUTPUT."""

        def tell(line: Line) -> None:
            self._lines(replace(line, stream="server"))

        limits = Limits(log_bytes=_LOG_BYTES)
        # A hard link into another user's cache would make that user's file part of the environment.
        env = {**self.env, **recipe.env, **({"UV_LINK_MODE": "copy"} if self._user else {})}
        for argv in recipe.commands:
            feed = LineFeed(tell, limits, self._order.secrets)
            end = self._supervise(Command(argv, directory, env, 0o077), feed)
            feed.close()
            if end.cause is not None:
                raise Interrupted(end)
            if end.exit_code != 0:
                raise AuthorError(
                    f"Dependency installation failed (exit code {end.exit_code}):"
                    f" {feed.stderr_tail}"
                )
