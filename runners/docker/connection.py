"""One connection to a Docker engine, and what its errors mean."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
import urllib3
from docker import errors as sdk
from requests.utils import get_environ_proxies

from runners.docker.errors import (
    EngineFailed,
    EngineGone,
    EngineRefused,
    clean,
    explain,
    is_authors,
)
from runners.docker.finding import Certificates, Endpoint, find_endpoint
from runners.docker.frames import FrameStream

CALL_TIMEOUT_S = 60
_GONE = (
    sdk.DockerException,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
)


class Connection:
    """Opens on first use; safe to use from many threads. Raises EngineGone, EngineFailed and
    EngineRefused only."""

    def __init__(self, host: str | None) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._client: Any = None
        self._endpoint: Endpoint | None = None

    @contextmanager
    def open(self) -> Iterator[Any]:
        """The SDK's low-level client; errors in the block are translated."""
        client = self._get()
        with translate_errors(self._endpoint):
            yield client

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """One call of the SDK's low-level client."""
        with self.open() as client:
            return getattr(client, method)(*args, **options)

    def create_container(self, request: dict[str, Any], name: str, platform: str | None) -> str:
        """The new container's id."""
        with self.open() as client:
            params = {"name": name, **({"platform": platform} if platform else {})}
            response = client._post_json(
                client._url("/containers/create"), data=request, params=params
            )
            return str(client._result(response, True)["Id"])

    def attach(self, container: str, *, with_input: bool = False) -> FrameStream:
        """The container's output from now on; `with_input`: and a way into it."""
        with self.open() as client:
            # The SDK's own attach returns a socket without the bytes that its reader has already
            # buffered.
            response = client._post(
                client._url("/containers/{0}/attach", container),
                params={"stream": 1, "stdout": 1, "stderr": 1, "stdin": int(with_input)},
                headers={"Connection": "Upgrade", "Upgrade": "tcp"},
                stream=True,
            )
            client._raise_for_status(response)
            return FrameStream(response, is_raw=True)

    def read_log(self, container: str, *, follow: bool, tail: int | None = None) -> FrameStream:
        """The engine's own record of the container's output; with `follow`, until it has ended."""
        with self.open() as client:
            params = {"stdout": 1, "stderr": 1, "follow": int(follow), "tail": tail or "all"}
            response = client._get(
                client._url("/containers/{0}/logs", container), params=params, stream=True
            )
            client._raise_for_status(response)
            return FrameStream(response, is_raw=False)

    def is_alive(self) -> bool:
        return self.find_trouble() is None

    def find_trouble(self) -> str | None:
        """Why the engine does not answer; None when it does."""
        try:
            self.call("ping")
        except EngineGone as problem:
            return str(problem)
        except (EngineFailed, EngineRefused):
            pass  # it answers
        return None

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
                endpoint = find_endpoint(self._host)
                with translate_errors(endpoint):
                    self._client = _open_client(endpoint)
                self._endpoint = endpoint
            return self._client


def _open_client(endpoint: Endpoint) -> Any:
    tls: Any = False
    if endpoint.certificates is not None and not endpoint.url.startswith("unix://"):
        tls = _build_tls(endpoint.certificates)
    client = docker.APIClient(
        endpoint.url, version="1.24", tls=tls, timeout=CALL_TIMEOUT_S, max_pool_size=64
    )
    # Without this, REQUESTS_CA_BUNDLE would replace the engine's own authority and a .netrc would
    # add a password.
    client.trust_env = False
    client.proxies = {} if endpoint.url.startswith("unix://") else _find_proxies(client.base_url)
    client._version = client._retrieve_server_version()
    return client


def _build_tls(files: Certificates) -> docker.tls.TLSConfig:
    for path in (files.certificate, files.key, files.ca if files.is_verified else None):
        if path is not None and not path.is_file():
            raise EngineGone(f"The certificate {path} of the Docker engine does not exist")
    pair = (str(files.certificate), str(files.key)) if files.certificate and files.key else None
    ca = str(files.ca) if files.ca else None
    return docker.tls.TLSConfig(client_cert=pair, ca_cert=ca, verify=files.is_verified)


def _find_proxies(url: str) -> dict[str, str]:
    return dict(get_environ_proxies(url))


@contextmanager
def translate_errors(endpoint: Endpoint | None) -> Iterator[None]:
    try:
        yield
    except sdk.APIError as error:
        status = error.response.status_code if error.response is not None else 500
        message = clean(str(error.explanation or error))
        if status >= 500 and not is_authors(message):
            raise EngineFailed(f"The Docker engine failed: {message}") from error
        raise EngineRefused(message, status) from error
    except _GONE as error:
        raise EngineGone(
            f"The Docker engine at {endpoint} cannot be reached: {explain(error)}"
        ) from error
