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

from runners.pod.answers import ClusterAway, Refused, describe_invalid, describe_silence, translate
from runners.pod.config import PodConfig
from runners.pod.credentials import load

logger = logging.getLogger(__name__)
T = TypeVar("T")
MAX_EVENTS = 100


class Outage:
    """How long an attempt has been waiting for an API server that is away.

    One for all that an attempt asks, so that its verdict comes after one `limit_s`, not after
    several.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._since: float | None = None

    def note(self, began: float) -> float:
        """A request that began then was not answered; returns the seconds left."""
        if self._since is None:
            self._since = began
        return self._since + self._limit_s - time.monotonic()

    def end(self) -> None:
        self._since = None


class Cluster:
    """Opens on first use; safe to use from many threads. Raises ClusterAway and Refused only."""

    def __init__(self, config: PodConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._client: Any = None
        self._allowed: set[str] = set()  # methods that have succeeded
        self._denied_since: dict[str, float] = {}  # methods that have never been allowed

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

    def list_events(self, pod_uid: str) -> list[dict[str, Any]]:
        """What the cluster has noted about a pod."""
        found = self._read(
            "list_namespaced_event",
            self._config.namespace,
            field_selector=f"involvedObject.uid={pod_uid}",
            limit=MAX_EVENTS,
        )
        items: list[dict[str, Any]] = found["items"]
        return items

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
            _request_timeout=(self._request_timeout_s, timeout_s + self._config.request_timeout_s),
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
            _request_timeout=(self._request_timeout_s, read_timeout_s),
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
        options.setdefault("_request_timeout", self._request_timeout_s)
        try:
            response = getattr(self._get(method), method)(*args, _preload_content=False, **options)
        except client.ApiException as error:
            raise self._classify(method, error) from error
        except pydantic.ValidationError as error:
            raise Refused(describe_invalid(error), 422) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterAway(describe_silence(error, self._host)) from error
        self._allowed.add(method)
        return response

    def _classify(self, method: str, error: client.ApiException) -> ClusterAway | Refused:
        if error.status == 401:
            self._forget_credentials()
        was_allowed, now = method in self._allowed, time.monotonic()
        denied_since = self._denied_since.setdefault(method, now) if error.status == 403 else now
        return translate(
            error,
            is_reading=method.startswith(("read_", "list_")),
            was_allowed=was_allowed,
            may_be_early=now - denied_since < self._config.denial_s,
        )

    @property
    def _request_timeout_s(self) -> float:
        """Much less than an outage may take: its end is noticed between two requests."""
        return min(self._config.request_timeout_s, max(self._config.outage_s / 4, 5.0))

    @property
    def _host(self) -> str:
        opened = self._client
        return str(opened.configuration.host) if opened is not None else "an unknown address"

    def _forget_credentials(self) -> None:
        """The next request reads them anew: they may have been renewed."""
        with self._lock:
            self._client = None

    def _get(self, method: str) -> Any:
        """The API object that has this method."""
        with self._lock:
            if self._client is None:
                self._client = client.ApiClient(load(self._config))
        api = client.AuthorizationV1Api if method.endswith("_access_review") else client.CoreV1Api
        return api(self._client)


def patiently(
    act: Callable[[], T],
    outage: Outage,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    first_s: float = 0.2,
) -> T:
    """The result of `act`, retried while the cluster is unreachable: until the outage has taken too
    long or until `should_stop`."""
    delay = first_s
    while True:
        began = time.monotonic()
        try:
            result = act()
        except ClusterAway as problem:
            pause = max(delay, min(problem.retry_after_s or 0.0, 30.0))
            if outage.note(began) < pause or should_stop():
                raise
            logger.info("waiting %.1f s for the API server: %s", pause, problem)
            time.sleep(pause)
            delay = min(delay * 2, 5.0)
        else:
            outage.end()
            return result


def break_off(response: Any) -> None:
    """End an open response, if any, that another thread reads."""
    if response is not None:
        # a closed response raises many kinds of errors
        with contextlib.suppress(Exception):
            response.shutdown()
