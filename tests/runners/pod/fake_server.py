"""The HTTP side of the fake cluster: routes, rights, faults, watches and logs."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import socket
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.runners.pod.fake_contract import find_request_problems
from tests.runners.pod.fake_kubelet import ApiError

if TYPE_CHECKING:
    from tests.runners.pod.fake_api import FakeCluster

TOKEN = "worker-account"
_ROUTE = re.compile(
    r"/api/v1/namespaces/(?P<ns>[^/]+)/(?P<kind>pods|secrets|events)(/(?P<name>[^/]+)(/(?P<sub>log))?)?"
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass
class Fault:
    """Answer the next `times` requests that fit with `status`; with `after` only once they have
    been carried out."""

    verb: str
    path: str
    status: int
    times: int = 1
    retry_after: int | None = None
    after: bool = False


class Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        url = urlsplit(self.path)
        options = {key: values[0] for key, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        if self.cluster.is_away:
            with self.cluster.changed:
                self.cluster.turned_away += 1
                self.cluster.changed.notify_all()
            self._break_off()
            return
        self._generation = self.cluster.generation
        self.cluster.requests.append((method, url.path, options))
        try:
            if (method, url.path) == ("POST", _REVIEWS):
                self._check_request("review", options, body)
                self._send(201, self._review(body))
                return
            route = _ROUTE.fullmatch(url.path)
            if route is None:
                raise ApiError(404, "NotFound", "the server could not find the requested resource")
            verb = _find_verb(method, route, options)
            self._check_request("log" if route["sub"] else verb, options, body)
            self._check_account(verb, route)
            fault = self._take_fault(verb, url.path)
            if fault is not None and not fault.after:
                raise _as_error(fault)
            answer = self._answer(verb, route, options, body)
            if fault is not None:
                raise _as_error(fault)
            if answer is not None:
                self._send(201 if method == "POST" else 200, answer)
        except ApiError as error:
            self._send_error(error)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _review(self, body: dict[str, Any]) -> dict[str, Any]:
        """May the one who asks do this?"""
        self._check_token()
        wanted = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
        return {
            **body,
            "status": {"allowed": (wanted["verb"], resource) not in self.cluster.forbidden},
        }

    def _check_request(self, verb: str, options: dict[str, str], body: dict[str, Any]) -> None:
        problems = list(find_request_problems(verb, options, dict(self.headers), body))
        if problems:
            self.cluster.complaints += problems
            raise ApiError(400, "BadRequest", "; ".join(problems))

    def _check_token(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise ApiError(401, "Unauthorized", "Unauthorized")

    def _check_account(self, verb: str, route: re.Match[str]) -> None:
        self._check_token()
        resource = "pods/log" if route["sub"] else route["kind"]
        if (verb, resource) in self.cluster.forbidden:
            message = (
                f'{route["kind"]} is forbidden: User "worker" cannot {verb} resource "{resource}"'
            )
            raise ApiError(403, "Forbidden", message)

    def _take_fault(self, verb: str, path: str) -> Fault | None:
        with self.cluster.changed:
            for fault in self.cluster.faults:
                if (
                    fault.times > 0
                    and re.fullmatch(fault.verb, verb)
                    and re.search(fault.path, path)
                ):
                    fault.times -= 1
                    return fault
        return None

    def _answer(self, verb: str, route: re.Match[str], options: dict[str, str], body: Any) -> Any:
        cluster, kind, name = self.cluster, route["kind"], route["name"]
        store = cluster.pods if kind == "pods" else cluster.secrets
        if kind == "events":
            wanted = options["fieldSelector"].partition("=")[2]
            events = [one for one in cluster.pod_events if one["involvedObject"]["uid"] == wanted]
            return {"kind": "EventList", "items": copy.deepcopy(events)}
        if verb == "create":
            if options.get("dryRun") == "All":
                cluster.rehearse(kind, route["ns"], body)
                return body
            return cluster.create(kind, route["ns"], body)
        if verb == "watch":
            return self._watch(options)
        if verb == "list":
            with cluster.changed:
                items = [copy.deepcopy(thing) for thing in store.values() if _fits(thing, options)]
                return {
                    "kind": "List",
                    "metadata": {"resourceVersion": str(cluster.version)},
                    "items": items,
                }
        if route["sub"] == "log":
            return self._log(name, options)
        if verb == "delete":
            return self._delete(kind, name, options, body)
        with cluster.changed:
            if name not in store:
                raise ApiError(404, "NotFound", f'{kind} "{name}" not found')
            return copy.deepcopy(store[name])

    def _delete(self, kind: str, name: str, options: dict[str, str], body: dict[str, Any]) -> Any:
        grace = body.get("gracePeriodSeconds", options.get("gracePeriodSeconds"))
        if kind == "pods":
            uid = (body.get("preconditions") or {}).get("uid")
            return self.cluster.delete_pod(name, int(grace) if grace is not None else None, uid)
        with self.cluster.changed:
            if self.cluster.secrets.pop(name, None) is None:
                raise ApiError(404, "NotFound", f'secrets "{name}" not found')
        return {"kind": "Status", "status": "Success"}

    def _watch(self, options: dict[str, str]) -> None:
        cluster = self.cluster
        with cluster.changed:
            if cluster.forgets_before_watch:
                cluster.forgets_before_watch = False
                # other things have changed; the pod has not, and its version is forgotten
                cluster.version += 1000
                cluster.compacted = cluster.version
            at = _read_version(options.get("resourceVersion", "0"))
            is_too_old = 0 < at < cluster.compacted
            present = (
                [] if at else [(0, "ADDED", copy.deepcopy(pod)) for pod in cluster.pods.values()]
            )
            backlog = [event for event in present if _fits(event[2], options)]
            at = at or cluster.version
        if is_too_old and not cluster.tells_410_in_stream:
            raise ApiError(410, "Expired", f"too old resource version: {at} ({cluster.version})")
        deadline = time.monotonic() + float(options.get("timeoutSeconds", 60))
        self._begin_stream("application/json")
        if is_too_old:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
            self._write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
        sent = 0
        while time.monotonic() < deadline and not is_too_old and not self._is_broken():
            with cluster.changed:
                cluster.changed.wait_for(lambda: cluster.version > at or backlog, 0.2)
                news = backlog + [
                    event for event in cluster.events if event[0] > at and _fits(event[2], options)
                ]
                backlog = []
                at = max(at, cluster.version)
            for _, kind, pod in news:
                self._write(json.dumps({"type": kind, "object": pod}).encode() + b"\n")
                sent += 1
                if cluster.watch_events_each is not None and sent >= cluster.watch_events_each:
                    self._break_off()
                    return
        if not self._is_broken():
            self._write(b"")

    def _log(self, name: str, options: dict[str, str]) -> None:
        cluster = self.cluster
        kubelet = cluster.kubelets.get(name)
        if kubelet is None or name not in cluster.pods:
            raise ApiError(404, "NotFound", f'pods "{name}" not found')
        follow = options.get("follow") == "true"
        since = int(options["sinceSeconds"]) if "sinceSeconds" in options else None
        batches = kubelet.read_log(options.get("container", "step"), follow, since)
        budget = cluster.log_lines_each.pop(0) if cluster.log_lines_each else None
        self._begin_stream("text/plain")
        for batch in batches:
            if self._is_broken():
                return
            if budget is None and not cluster.log_pause_s:
                self._write(b"".join(batch))
                continue
            for line in batch:
                time.sleep(cluster.log_pause_s)
                self._write(line)
                if budget is not None and (budget := budget - 1) <= 0:
                    self._break_off()
                    return
        if not self._is_broken():
            self._write(b"")

    def _is_broken(self) -> bool:
        """Whether the server was restarted meanwhile; then this connection is closed."""
        if self._generation == self.cluster.generation:
            return False
        self._break_off()
        return True

    def _break_off(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _begin_stream(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _send(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _send_error(self, error: ApiError) -> None:
        status = {
            "kind": "Status",
            "status": "Failure",
            "code": error.status,
            "reason": error.reason,
        }
        data = json.dumps({**status, "message": str(error)}).encode()
        self.send_response(error.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if error.retry_after is not None:
            self.send_header("Retry-After", str(error.retry_after))
        self.end_headers()
        self.wfile.write(data)


def _find_verb(method: str, route: re.Match[str], options: dict[str, str]) -> str:
    if method == "GET" and route["name"]:
        return "get"
    if method == "GET":
        return "watch" if options.get("watch") == "true" else "list"
    return {"POST": "create", "DELETE": "delete"}[method]


def _as_error(fault: Fault) -> ApiError:
    told = f"injected {fault.status}"
    if fault.status == 403:
        told = 'pods is forbidden: User "worker" cannot get resource "pods": RBAC: role not found'
    error = ApiError(fault.status, "Fault", told)
    error.retry_after = fault.retry_after
    return error


def _read_version(text: str) -> int:
    if not text.isdecimal():
        raise ApiError(400, "BadRequest", f"resourceVersion: Invalid value: {text!r}")
    return int(text)


def _fits(thing: dict[str, Any], options: dict[str, str]) -> bool:
    labels = thing["metadata"].get("labels") or {}
    for part in filter(None, options.get("labelSelector", "").split(",")):
        key, _, value = part.partition("=")
        if labels.get(key) != value:
            return False
    for part in filter(None, options.get("fieldSelector", "").split(",")):
        key, _, value = part.partition("=")
        if key != "metadata.name" or thing["metadata"]["name"] != value:
            return False
    return True
