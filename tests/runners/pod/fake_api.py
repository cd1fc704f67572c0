"""A small API server over HTTP whose pods really run, in Docker: what the pod runner is tested
against.

It keeps the rules that a client can break: names, labels, the OpenAPI schema, query parameters,
resource versions, selectors, grace periods, preconditions, expansion of $(NAME), verbs that an
account lacks. And it can misbehave on request: see `Fault` and the methods of `FakeCluster` under
"what goes wrong".
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docker
import yaml

from tests.runners.pod.fake_checks import check_object
from tests.runners.pod.fake_kubelet import ApiError, Kubelet, now
from tests.runners.pod.fake_server import TOKEN, Fault, Handler

__all__ = ["TOKEN", "FakeCluster", "Fault"]


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
        self.turned_away = 0  # requests while it was away
        self.forgets_before_watch = False
        self.tells_410_in_stream = False
        self.watch_events_each: int | None = None
        self.log_lines_each: list[int] = []
        self.log_pause_s = 0.0
        self.kubelets: dict[str, Kubelet] = {}
        self.seen: list[dict[str, Any]] = []
        handler = type("ItsHandler", (Handler,), {"cluster": self})
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

    def restart(self, refusals: int = 3, denials: int = 3) -> None:
        """Every connection breaks, nobody answers so many requests, and then the server does not
        know its accounts and rules yet."""
        with self.changed:
            self.is_away = True
            self.generation += 1
            self.changed.notify_all()
        until = self.turned_away + refusals
        self.wait_for(lambda: self.turned_away >= until, 60)
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
