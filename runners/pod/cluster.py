"""One connection to an API server: the few calls that a step needs, with classified errors."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pydantic
import urllib3
from kubernetes import client
from kubernetes import config as kube_config

from engine.errors import AuthorError, PlatformError
from runners.pod.config import PodConfig

logger = logging.getLogger(__name__)
T = TypeVar("T")


class ClusterAway(PlatformError):
    """The API server is unreachable or asks to retry later (429, 5xx)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Refused(AuthorError):
    """The API server refused the request. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Cluster:
    """Opens on first use; safe to use from many threads. Raises ClusterAway and Refused only."""

    def __init__(self, config: PodConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: Any = None

    def create(
        self, kind: str, body: Mapping[str, Any], *, is_rehearsal: bool = False
    ) -> dict[str, Any]:
        """`kind` is "pod" or "secret". Fields unknown to the server raise Refused instead of being
        dropped."""
        options = {"dry_run": "All"} if is_rehearsal else {}
        return self._read(
            f"create_namespaced_{kind}",
            self._config.namespace,
            dict(body),
            field_validation="Strict",
            **options,
        )

    def may(self, verb: str, resource: str) -> bool:
        """Whether our account may do this in the namespace; `pods/log` is a subresource."""
        name, _, part = resource.partition("/")
        wanted = {
            "namespace": self._config.namespace,
            "verb": verb,
            "resource": name,
            "subresource": part,
        }
        review = {
            "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}}
        }
        answer = self._read("create_self_subject_access_review", review)
        return bool((answer.get("status") or {}).get("allowed"))

    def get_pod(self, name: str) -> dict[str, Any] | None:
        return self._read_or_none("read_namespaced_pod", name, self._config.namespace)

    def delete(
        self, kind: str, name: str, grace_s: int | None = None, uid: str | None = None
    ) -> None:
        """Request the deletion of one object; a missing one is fine."""
        options: dict[str, Any] = {"grace_period_seconds": grace_s} if grace_s is not None else {}
        if uid is not None:
            options["body"] = client.V1DeleteOptions(
                preconditions=client.V1Preconditions(uid=uid), **options
            )
        try:
            self._read(f"delete_namespaced_{kind}", name, self._config.namespace, **options)
        except Refused as refusal:
            if refusal.status not in (404, 409):
                raise

    def list(self, kind: str, selector: str) -> list[dict[str, Any]]:
        found = self._read(
            f"list_namespaced_{kind}", self._config.namespace, label_selector=selector
        )
        items: list[dict[str, Any]] = found["items"]
        return items

    def watch(self, name: str, version: str, timeout_s: int) -> Any:
        """The open response of a watch on one pod, from `version` or from now on: JSON lines."""
        options = {"resource_version": version} if version else {}
        return self._call(
            "list_namespaced_pod",
            self._config.namespace,
            field_selector=f"metadata.name={name}",
            allow_watch_bookmarks=True,
            timeout_seconds=timeout_s,
            watch=True,
            _request_timeout=(
                self._config.request_timeout_s,
                timeout_s + self._config.request_timeout_s,
            ),
            **options,
        )

    def read_log(
        self, name: str, container: str, *, follow: bool, since_s: int | None, read_timeout_s: float
    ) -> Any:
        """The open response of a container's log: lines with timestamps."""
        options = {"since_seconds": since_s} if since_s is not None else {}
        return self._call(
            "read_namespaced_pod_log",
            name,
            self._config.namespace,
            container=container,
            follow=follow,
            timestamps=True,
            _request_timeout=(self._config.request_timeout_s, read_timeout_s),
            **options,
        )

    def _read_or_none(self, method: str, *args: Any) -> dict[str, Any] | None:
        try:
            return self._read(method, *args)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    def _read(self, method: str, *args: Any, **options: Any) -> dict[str, Any]:
        response = self._call(method, *args, **options)
        try:
            found: dict[str, Any] = json.loads(response.data)
        except (ValueError, urllib3.exceptions.HTTPError) as error:
            raise ClusterAway(
                f"The API server's answer could not be read: {type(error).__name__}"
            ) from error
        finally:
            response.release_conn()
        return found

    def _call(self, method: str, *args: Any, **options: Any) -> Any:
        options.setdefault("_request_timeout", self._config.request_timeout_s)
        try:
            return getattr(self._get(method), method)(*args, _preload_content=False, **options)
        except client.ApiException as error:
            raise _translate(error) from error
        except pydantic.ValidationError as error:
            raise Refused(_describe_invalid(error), 422) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterAway(
                f"The API server cannot be reached: {type(error).__name__}"
            ) from error

    def _get(self, method: str) -> Any:
        """The API object that has this method."""
        with self._lock:
            if self._client is None:
                self._client = client.ApiClient(_load(self._config))
        api = client.AuthorizationV1Api if method.endswith("_access_review") else client.CoreV1Api
        return api(self._client)


def patiently(
    act: Callable[[], T],
    outage_s: float,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    first_s: float = 0.2,
) -> T:
    """The result of `act`, retried while the cluster is unreachable: for `outage_s` or until
    `should_stop`."""
    deadline, delay = time.monotonic() + outage_s, first_s
    while True:
        try:
            return act()
        except ClusterAway as problem:
            pause = max(delay, min(problem.retry_after_s or 0.0, 30.0))
            if should_stop() or time.monotonic() + pause > deadline:
                raise
            logger.info("waiting %.1f s for the API server: %s", pause, problem)
            time.sleep(pause)
            delay = min(delay * 2, 5.0)


def break_off(response: Any) -> None:
    """End an open response, if any, that another thread reads."""
    if response is not None:
        # a closed response raises many kinds of errors
        with contextlib.suppress(Exception):
            response.shutdown()


def _load(config: PodConfig) -> Any:
    settings = client.Configuration()
    try:
        if config.kubeconfig is not None or config.context is not None:
            path = str(config.kubeconfig) if config.kubeconfig is not None else None
            kube_config.load_kube_config(
                path, context=config.context, client_configuration=settings
            )
        else:
            try:
                kube_config.load_incluster_config(client_configuration=settings)
            except kube_config.ConfigException:
                kube_config.load_kube_config(client_configuration=settings)
    except kube_config.ConfigException as error:
        raise ClusterAway(
            f"No credentials for a cluster: neither in-cluster ones nor a kubeconfig ({error})"
        ) from error
    settings.retries = False  # patiently() retries
    settings.connection_pool_maxsize = 64
    return settings


def _translate(error: client.ApiException) -> ClusterAway | Refused:
    message = str(error.reason or "")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        message = str(json.loads(error.body or "")["message"])
    status = int(error.status or 0)
    if status == 429 or status >= 500 or status == 0:
        header = (error.headers or {}).get("Retry-After")
        seconds = float(header) if header and header.isdigit() else None
        return ClusterAway(f"The API server answered {status}: {message}", seconds)
    return Refused(message[:2000], status)


def _describe_invalid(error: pydantic.ValidationError) -> str:
    parts = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors()[:5]
    ]
    return f"the manifest is not a valid pod: {'; '.join(parts)}"
