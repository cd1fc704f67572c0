"""One connection to a Docker engine, and what its errors mean."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
import urllib3
from docker import errors as sdk
from docker.utils import kwargs_from_env

from engine.errors import AuthorError, PlatformError
from runners.docker.frames import FrameStream

CALL_TIMEOUT_S = 60
_GONE = (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError)


class EngineGone(PlatformError):
    """The engine does not answer."""


class EngineFailed(PlatformError):
    """The engine reported an internal error."""


class EngineRefused(AuthorError):
    """The engine refused the request. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Connection:
    """Opens on first use; safe to use from many threads. Raises EngineGone, EngineFailed and
    EngineRefused only."""

    def __init__(self, host: str | None) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._client: Any = None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The SDK's low-level client; errors in the block are translated."""
        with translate_errors():
            yield self._get()

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """One call of the SDK's low-level client."""
        with self.open() as client:
            return getattr(client, method)(*args, **options)

    def attach(self, container: str, *, replay: bool) -> FrameStream:
        """The container's output from now on; with `replay`, everything since its start comes
        first."""
        with self.open() as client:
            # The SDK's own attach returns a socket without the bytes that its reader has already
            # buffered.
            response = client._post(
                client._url("/containers/{0}/attach", container),
                params={"stream": 1, "stdout": 1, "stderr": 1, "logs": int(replay)},
                headers={"Connection": "Upgrade", "Upgrade": "tcp"},
                stream=True,
            )
            client._raise_for_status(response)
            return FrameStream(response)

    def is_alive(self) -> bool:
        try:
            self.call("ping")
        except EngineGone:
            return False
        except (EngineFailed, EngineRefused):
            pass  # it answers
        return True

    def forget_missing(self, act: Callable[[], Any]) -> bool:
        """Call `act`; False when the engine no longer knows its object."""
        try:
            act()
        except EngineRefused as refusal:
            if refusal.status != 404:
                raise
            return False
        return True

    def _get(self) -> Any:
        with self._lock:
            if self._client is None:
                options = kwargs_from_env()
                if self._host is not None:
                    options["base_url"] = self._host
                self._client = docker.APIClient(
                    version="auto", timeout=CALL_TIMEOUT_S, max_pool_size=64, **options
                )
            return self._client


@contextmanager
def translate_errors() -> Iterator[None]:
    try:
        yield
    except sdk.APIError as error:
        status = error.response.status_code if error.response is not None else 500
        message = _clean(str(error.explanation or error))
        if status >= 500 and not _is_authors(message):
            raise EngineFailed(f"The Docker engine failed: {message}") from error
        raise EngineRefused(message, status) from error
    except (sdk.DockerException, *_GONE) as error:
        raise EngineGone(f"The Docker engine cannot be reached: {type(error).__name__}") from error


def _is_authors(message: str) -> bool:
    """Whether the engine reports an error as its own although the image or the request caused
    it."""
    return bool(
        re.search(
            r"executable file not found|no such file or directory|permission denied|not found",
            message,
        )
    )


def _clean(message: str) -> str:
    message = re.sub(
        r"^(failed to create shim( task)?: )?(OCI runtime create failed: )?", "", message.strip()
    )
    return re.sub(r"(: unknown)+$", "", message)[:2000]
