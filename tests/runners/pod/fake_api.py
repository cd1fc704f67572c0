"""A small API server over HTTP whose pods really run, in Docker: what the pod runner is tested
against.

It keeps the rules that a client can break: names, labels, the OpenAPI schema, query parameters,
resource versions, selectors, grace periods, preconditions, expansion of $(NAME), verbs that an
account lacks. And it can misbehave on request: see `Fault` and the methods of `FakeCluster` under
"what goes wrong".
"""

from __future__ import annotations

import contextlib
import copy
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import docker
import yaml

from tests.runners.pod.fake_checks import check_object
from tests.runners.pod.fake_contract import find_request_problems
from tests.runners.pod.fake_kubelet import ApiError, Kubelet, now

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


class FakeCluster:
    """One namespace-less store of pods and secrets, a kubelet for each pod, and the server in front
    of them.

    Without an engine it takes requests about everything but pods that are to run.
    """

    def __init__(self, engine: docker.DockerClient | None) -> None:
        self.engine = engine
        self.id = uuid.uuid4().hex[:10]
        self.changed = threading.Condition(threading.RLock())
        self.pods: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, dict[str, Any]] = {}
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self.compacted = 0
        self.version = 100
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.complaints: list[str] = []  # about requests that no API server would take
        self.faults: list[Fault] = []
        self.forbidden: set[tuple[str, str]] = set()
        self.absent_namespaces: set[str] = set()
        self.is_unschedulable = False
        self.missing_volume = ""
        self.pod_events: list[dict[str, Any]] = []
        self.quota: int | None = None  # of pods
        self.requires_limits = False
        self.log_file_bytes = 10 << 20
        self.generation = 0  # of the server: a restart breaks what is open
        self.is_away = False
        self.forgets_before_watch = False
        self.tells_410_in_stream = False
        self.watch_events_each: int | None = None
        self.log_lines_each: list[int] = []
        self.log_pause_s = 0.0
        self.kubelets: dict[str, Kubelet] = {}
        self.seen: list[dict[str, Any]] = []
        handler = type("Handler", (_Handler,), {"cluster": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def write_kubeconfig(self, path: Path, token: str = TOKEN) -> Path:
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        path.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "fake",
                    "clusters": [{"name": "fake", "cluster": {"server": url}}],
                    "users": [{"name": "worker", "user": {"token": token}}],
                    "contexts": [
                        {"name": "fake", "context": {"cluster": "fake", "user": "worker"}}
                    ],
                }
            )
        )
        return path

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for kubelet in list(self.kubelets.values()):
            kubelet.destroy()

    # what tests ask

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
        with self.changed:
            assert self.changed.wait_for(condition, timeout_s), (
                "the cluster did not get there in time"
            )
            return condition()

    def wait_running(self) -> str:
        """The name of the one pod, once its step runs."""

        def find() -> str | None:
            for name, pod in self.pods.items():
                for entry in pod["status"].get("containerStatuses", []):
                    if entry["name"] == "step" and entry["state"].get("running"):
                        return name
            return None

        return str(self.wait_for(find))

    def count(self, verb: str, part: str) -> int:
        return sum(1 for method, path, _ in self.requests if method == verb and part in path)

    # what goes wrong

    def evict(self, name: str) -> None:
        message = "The node was low on resource: memory."
        self.kubelets[name].take_away({"phase": "Failed", "reason": "Evicted", "message": message})

    def lose_node(self, name: str) -> None:
        condition = {
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }  # fmt: skip
        self.kubelets[name].take_away({"phase": "Failed", "conditions": [condition]})

    def restart(self, away_s: float = 0.5, denials: int = 3) -> None:
        """Every connection breaks, nobody answers for a while, and then the server does not know
        its accounts and rules yet."""
        with self.changed:
            self.is_away = True
            self.generation += 1
            self.changed.notify_all()
        time.sleep(away_s)
        with self.changed:
            for status in (401, 403):
                self.faults.append(Fault(".*", "", status, times=denials))
            self.is_away = False

    def note_event(self, uid: str, reason: str, message: str, kind: str = "Warning") -> None:
        with self.changed:
            self.pod_events.append(
                {
                    "metadata": {"name": f"event-{len(self.pod_events)}"},
                    "involvedObject": {"uid": uid},
                    "type": kind, "reason": reason, "message": message, "lastTimestamp": now(),
                }
            )  # fmt: skip

    def delete_by_hand(self, name: str, grace_s: int = 0) -> None:
        self.delete_pod(name, grace_s, None)

    # the store

    def create(self, kind: str, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
        name = body["metadata"]["name"]
        self.rehearse(kind, namespace, body)
        store = self.pods if kind == "pods" else self.secrets
        with self.changed:
            if name in store:
                raise ApiError(409, "AlreadyExists", f'{kind} "{name}" already exists')
            self.seen.append(copy.deepcopy(body))
            thing = copy.deepcopy(body)
            self.version += 1
            thing["metadata"] |= {
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now(),
                "resourceVersion": str(self.version),
            }
            store[name] = thing
            if kind == "pods":
                thing["status"] = {"phase": "Pending"}
                self.events.append((self.version, "ADDED", copy.deepcopy(thing)))
                self.kubelets[name] = Kubelet(self, thing)
            self.changed.notify_all()
            answer = copy.deepcopy(thing)
        if kind == "pods":
            self.kubelets[name].start()
        return answer

    def rehearse(self, kind: str, namespace: str, body: dict[str, Any]) -> None:
        """What is asked before anything is made: is the object right, and is there such a
        namespace?"""
        if namespace in self.absent_namespaces:
            raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found')
        check_object(kind, namespace, body)
        if kind == "pods":
            self._check_quota(body)

    def _check_quota(self, body: dict[str, Any]) -> None:
        name, spec = body["metadata"]["name"], body["spec"]
        if self.quota is not None and len(self.pods) >= self.quota:
            message = (
                f'pods "{name}" is forbidden: exceeded quota: compute, requested: pods=1, used:'
                f" pods={len(self.pods)}, limited: pods={self.quota}"
            )
            raise ApiError(403, "Forbidden", message)
        containers = [*spec.get("initContainers", []), *spec["containers"]]
        unlimited = [
            item["name"]
            for item in containers
            if not {"cpu", "memory"} <= item.get("resources", {}).get("limits", {}).keys()
        ]
        if self.requires_limits and unlimited:
            message = (
                f'pods "{name}" is forbidden: failed quota: compute: must specify limits.cpu for:'
                f" {','.join(unlimited)}; limits.memory for: {','.join(unlimited)}"
            )
            raise ApiError(403, "Forbidden", message)

    def set_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        with self.changed:
            pod = self.pods.get(name)
            if pod is None or pod["metadata"]["uid"] != uid:
                return
            pod["status"] = copy.deepcopy(status)
            self.note(pod, "MODIFIED")

    def note(self, pod: dict[str, Any], kind: str) -> None:
        self.version += 1
        pod["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, kind, copy.deepcopy(pod)))
        self.changed.notify_all()

    def delete_pod(self, name: str, grace_s: int | None, uid: str | None) -> dict[str, Any]:
        with self.changed:
            pod = self.pods.get(name)
            if pod is None:
                raise ApiError(404, "NotFound", f'pods "{name}" not found')
            if uid is not None and pod["metadata"]["uid"] != uid:
                raise ApiError(409, "Conflict", "the UID in the precondition does not match")
            grace = (
                pod["spec"].get("terminationGracePeriodSeconds", 30) if grace_s is None else grace_s
            )
            if grace == 0:
                self.drop(name)
            elif "deletionTimestamp" not in pod["metadata"]:
                pod["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
                self.note(pod, "MODIFIED")
            answer = copy.deepcopy(pod)
        self.kubelets[name].stop(grace)
        return answer

    def drop(self, name: str) -> None:
        with self.changed:
            pod = self.pods.pop(name, None)
            if pod is not None:
                self.note(pod, "DELETED")


class _Handler(BaseHTTPRequestHandler):
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
