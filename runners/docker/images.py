"""Ensures that an image is present: pull policy, progress in the log, credentials from the worker's
configuration."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

from docker import auth
from docker.utils import parse_repository_tag

from engine.errors import AuthorError
from engine.orders import ContainerWishes
from runners.containers.remote import EndSignal
from runners.docker.config import DockerConfig
from runners.docker.connection import Connection
from runners.docker.errors import EngineFailed, EngineGone, EngineRefused
from runners.lines import LineFeed

_TOLD = frozenset({"Pull complete", "Already exists"})
_POLL_S = 0.05


class Images:
    """The engine's images. Concurrent steps that need the same missing image pull it once."""

    def __init__(self, connection: Connection, config: DockerConfig) -> None:
        self._connection = connection
        self._config = config
        self._lock = threading.Lock()
        self._pulls: dict[str, threading.Lock] = {}
        self._own_platform = ""
        self._foreign: set[str] = set()  # that exist for other platforms than the engine's alone

    def ensure(
        self, image: str, wishes: ContainerWishes, feed: LineFeed, end_signal: EndSignal
    ) -> str | None:
        """The image's id; None when `end_signal` came first. An unavailable image raises
        AuthorError."""
        policy, platform = wishes.pull or self._config.pull, wishes.platform
        known, is_right = self._find(image, platform)
        if known is not None and policy != "always" and (is_right or policy == "never"):
            return known
        if policy == "never":
            whose = "the action's `pull`" if wishes.pull else "docker.pull"
            variant = f" for {platform}" if platform else ""
            raise AuthorError(
                f"image {image!r} is not on this worker's engine{variant}, and {whose} is 'never'"
            )
        with self._lock:
            lock = self._pulls.setdefault(image, threading.Lock())
        while not lock.acquire(timeout=_POLL_S):
            if end_signal.cause is not None:
                return None
        try:
            known, is_right = self._find(image, platform)
            if policy == "missing" and is_right:
                return known
            return self._pull(image, platform, known, feed, end_signal)
        finally:
            lock.release()

    def _find(self, image: str, platform: str | None) -> tuple[str | None, bool]:
        """The id of the image if the engine has it, and for this platform; and whether it will do.

        A step with a `platform` may have left its variant under this name: without one, a step gets
        the engine's own again.
        """
        try:
            found = self._connection.call("inspect_image", image)
        except EngineRefused as refusal:
            if refusal.status == 404:
                return None, False
            raise
        if not _is_for(found, platform):
            return None, False
        is_right = platform is not None or image in self._foreign or _is_for(found, self._own())
        return str(found["Id"]), is_right

    def _own(self) -> str:
        """The engine's platform."""
        if not self._own_platform:
            about = self._connection.call("version")
            self._own_platform = f"{about['Os']}/{about['Arch']}"
        return self._own_platform

    def _pull(
        self,
        image: str,
        platform: str | None,
        known: str | None,
        feed: LineFeed,
        end_signal: EndSignal,
    ) -> str | None:
        feed.say(f"Pulling image {image}{f' for {platform}' if platform else ''}")
        pull = _Pull(self._connection, image, platform, self._find_login(image))
        pull.start()
        while not pull.done.wait(_POLL_S):
            pull.tell(feed)
            if end_signal.cause is not None:
                return None
        pull.tell(feed)
        if pull.problem is None:
            found, is_right = self._find(image, platform)
            if found is None:
                raise AuthorError(f"image {image!r} does not exist for {platform}")
            self._remember(image, is_foreign=not is_right)
            feed.say(f"Pulled image {image}{f' ({pull.digest})' if pull.digest else ''}")
            return found
        if known is not None:
            self._remember(image, is_foreign=platform is None)
            feed.say(f"Could not pull image {image}, using the local copy: {pull.problem}")
            return known
        if isinstance(pull.problem, EngineGone):
            raise pull.problem
        raise AuthorError(
            f"Could not pull image {image!r}: {pull.problem}; check its name, and the registry's"
            " credentials in the worker's configuration"
        )

    def _remember(self, image: str, *, is_foreign: bool) -> None:
        (self._foreign.add if is_foreign else self._foreign.discard)(image)

    def _find_login(self, image: str) -> dict[str, str] | None:
        registry, _ = auth.resolve_repository_name(parse_repository_tag(image)[0])
        for name in (registry, "docker.io" if registry == auth.INDEX_NAME else registry):
            if (login := self._config.registries.get(name)) is not None:
                return {"username": login.username, "password": login.read_password()}
        return None


def _is_for(image: Mapping[str, Any], platform: str | None) -> bool:
    if platform is None:
        return True
    system, architecture, *variant = platform.split("/")
    return (image.get("Os"), image.get("Architecture")) == (system, architecture) and (
        not variant or image.get("Variant", "") in ("", variant[0])
    )


class _Pull(threading.Thread):
    """One pull in its own thread, so that a step can be cancelled while a registry hangs."""

    def __init__(
        self, connection: Connection, image: str, platform: str | None, login: dict[str, str] | None
    ) -> None:
        super().__init__(name="stroem-pull", daemon=True)
        self.done = threading.Event()
        self.problem: Exception | None = None
        self.digest: str | None = None
        self._connection = connection
        self._image = image
        self._platform = platform
        self._login = login
        self._lock = threading.Lock()
        self._news: list[str] = []

    def run(self) -> None:
        repository, tag = parse_repository_tag(self._image)
        try:
            with self._connection.open() as client:
                options: dict[str, Any] = {"stream": True, "decode": True}
                if self._login:
                    options["auth_config"] = self._login
                else:
                    client.reload_config()  # tokens in ~/.docker/config.json are short-lived
                for event in client.pull(
                    repository, tag=tag or "latest", platform=self._platform, **options
                ):
                    self._note(event)
        except (EngineGone, EngineFailed, EngineRefused) as problem:
            self.problem = problem
        finally:
            self.done.set()

    def tell(self, feed: LineFeed) -> None:
        with self._lock:
            news, self._news = self._news, []
        for text in news:
            feed.say(text)

    def _note(self, event: Mapping[str, Any]) -> None:
        if event.get("error"):
            self.problem = AuthorError(str(event["error"])[:1000])
            return
        status = str(event.get("status") or "")
        if status.startswith("Digest: "):
            self.digest = status.removeprefix("Digest: ")
        elif status in _TOLD or (status and not event.get("id")):
            with self._lock, contextlib.suppress(KeyError):
                self._news.append(f"{event['id']}: {status}" if event.get("id") else status)
