"""The kubelet of the fake cluster: runs the containers of a pod in Docker and tells their
states."""

from __future__ import annotations

import contextlib
import copy
import datetime
import io
import os
import re
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker

from tests.runners.pod.fake_log import NodeLog

if TYPE_CHECKING:
    from tests.runners.pod.fake_api import FakeCluster


class ApiError(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after: int | None = None


class Kubelet(threading.Thread):
    """Runs one pod: init containers one after the other, then all containers at once, volumes and
    network shared."""

    def __init__(self, cluster: FakeCluster, pod: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._cluster = cluster
        self._engine = cluster.engine
        self._pod_name = pod["metadata"]["name"]
        self._uid = pod["metadata"]["uid"]
        self._spec = copy.deepcopy(pod["spec"])
        self._labels = {"fake-cluster": cluster.id, "fake-pod": self._pod_name}
        self._status: dict[str, Any] = {"phase": "Pending", "conditions": []}
        self._lock = threading.RLock()
        self._is_stopping = threading.Event()
        self._grace_s = 0
        self._sandbox: Any = None
        self._is_taken = False
        self._is_destroyed = False
        self.containers: dict[str, Any] = {}
        self._logs: dict[str, NodeLog] = {}
        self._messages = tempfile.TemporaryDirectory(prefix="fake-kubelet-")

    def run(self) -> None:
        if self._cluster.is_unschedulable:
            message = "0/3 nodes are available: 3 Insufficient memory."
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": message,
            }
            self._tell(conditions=[condition])
            return
        if self._cluster.missing_volume:
            self._set_state(
                "containerStatuses",
                self._spec["containers"][0],
                {"waiting": {"reason": "ContainerCreating"}},
            )
            self._cluster.note_event(self._uid, "FailedMount", self._cluster.missing_volume)
            return
        try:
            if self._run_inits():
                self._run_containers()
        except docker.errors.DockerException:
            if not self._is_stopping.is_set():
                raise
        finally:
            if self._is_stopping.is_set():
                self._leave()

    def stop(self, grace_s: int) -> None:
        """TERM, the grace period, KILL; then the pod goes."""
        if self._is_stopping.is_set() and grace_s > 0:
            return
        self._is_stopping.set()
        self._grace_s = grace_s

        def end() -> None:
            for container in list(self.containers.values()):
                threading.Thread(
                    target=_stop_container, args=(container, grace_s), daemon=True
                ).start()
            if not self.is_alive():
                self._leave()

        threading.Thread(target=end, daemon=True).start()

    def take_away(self, status: dict[str, Any]) -> None:
        with self._lock:
            self._is_taken = True
            self._status |= status
            self._status["containerStatuses"] = []
        self._tell()
        for container in list(self.containers.values()):
            _stop_container(container, 0)

    def read_log(self, container: str, follow: bool, since_s: int | None) -> Any:
        found = self._logs.get(container)
        if found is None:
            message = f'container "{container}" in pod "{self._pod_name}" is waiting to start'
            raise ApiError(400, "BadRequest", message)
        return found.read(follow, since_s)

    def destroy(self) -> None:
        with self._lock:
            self._is_destroyed = True
        wanted = {"label": [f"fake-pod={self._pod_name}", f"fake-cluster={self._cluster.id}"]}
        for container in self._engine.containers.list(
            all=True, filters=wanted, ignore_removed=True
        ):
            _remove(container)
        for volume in self._engine.volumes.list(filters=wanted):
            with contextlib.suppress(docker.errors.APIError):  # it went with its last container
                volume.remove(force=True)

    def _leave(self) -> None:
        self._cluster.drop(self._pod_name)
        self.destroy()
        self._messages.cleanup()

    def _tell(self, **changes: Any) -> None:
        with self._lock:
            self._status |= changes
            status = copy.deepcopy(self._status)
        self._cluster.set_status(self._pod_name, self._uid, status)

    def _set_state(
        self, group: str, spec: dict[str, Any], state: dict[str, Any], **changes: Any
    ) -> None:
        with self._lock:
            if self._is_taken:
                return
            entries = self._status.setdefault(group, [])
            entry = {
                "name": spec["name"], "image": spec["image"], "imageID": "", "restartCount": 0,
                "ready": "running" in state, "state": state,
            }  # fmt: skip
            entries[:] = [known for known in entries if known["name"] != spec["name"]] + [entry]
            self._tell(**changes)

    def _find_start(self, group: str, name: str) -> dict[str, str]:
        """Empty for a container of a pod that was taken away."""
        with self._lock:
            states = [one["state"] for one in self._status.get(group, []) if one["name"] == name]
            return dict(*(state.get("running", {}) for state in states))

    def _run_inits(self) -> bool:
        for spec in self._spec.get("initContainers", []):
            container = self._start("initContainerStatuses", spec)
            if container is None:
                return False
            code = self._await_end("initContainerStatuses", spec, container)
            if code != 0:
                self._tell(phase="Failed")
                return False
        return True

    def _run_containers(self) -> None:
        waiters = []
        codes: dict[str, int] = {}
        specs = self._spec["containers"]
        if len(specs) > 1:
            self._sandbox = self._engine.containers.run(
                specs[0]["image"], ["sleep", "86400"], entrypoint=[], detach=True, init=True,
                labels=self._labels, user="0", name=f"{self._pod_name}-sandbox-{self._cluster.id}",
            )  # fmt: skip
        for spec in specs:
            container = self._start("containerStatuses", spec)
            if container is None:
                continue

            def wait(spec: dict[str, Any] = spec, container: Any = container) -> None:
                codes[spec["name"]] = self._await_end("containerStatuses", spec, container)

            waiter = threading.Thread(target=wait, daemon=True)
            waiter.start()
            waiters.append(waiter)
        for waiter in waiters:
            waiter.join()
        if len(codes) == len(specs) and not self._is_taken:
            self._tell(phase="Failed" if any(codes.values()) else "Succeeded")

    def _start(self, group: str, spec: dict[str, Any]) -> Any:
        if self._is_stopping.is_set():
            return None
        try:
            self._engine.images.get(spec["image"])
        except docker.errors.ImageNotFound:
            message = (
                f'rpc error: code = NotFound desc = failed to pull image "{spec["image"]}":'
                " manifest unknown"
            )
            self._set_state(
                group, spec, {"waiting": {"reason": "ErrImagePull", "message": message}}
            )
            return None
        except docker.errors.APIError:
            self._set_state(
                group, spec, {"waiting": {"reason": "InvalidImageName", "message": "bad reference"}}
            )
            return None
        try:
            env = self._build_env(spec)
        except KeyError as missing:
            waiting = {
                "reason": "CreateContainerConfigError",
                "message": f"secret {missing} not found",
            }
            self._set_state(group, spec, {"waiting": waiting})
            return None
        problem = self._find_user_problem(spec)
        if problem:
            waiting = {"reason": "CreateContainerConfigError", "message": problem}
            self._set_state(group, spec, {"waiting": waiting})
            return None
        container = self._engine.containers.create(
            spec["image"],
            entrypoint=(
                [_expand(part, env) for part in spec["command"]] if spec.get("command") else None
            ),
            command=[_expand(part, env) for part in spec["args"]] if spec.get("args") else None,
            environment=env,
            working_dir=spec.get("workingDir"),
            volumes=self._build_volumes(spec),
            **self._build_security(spec),
            labels=self._labels,
            name=f"{self._pod_name}-{spec['name']}-{self._cluster.id}",
            log_config=docker.types.LogConfig(type="local", config={"max-size": "1g"}),
            security_opt=["no-new-privileges"],
            **self._build_limits(spec),
        )
        with self._lock:
            self.containers[spec["name"]] = container
            if self._is_destroyed:
                _remove(container)
                return None
        try:
            container.start()
        except docker.errors.APIError as error:
            ended = {"exitCode": 128, "reason": "StartError", "message": str(error.explanation)}
            self._set_state(group, spec, {"terminated": ended}, phase="Failed")
            return None
        frames = container.logs(stream=True, follow=True, timestamps=True)
        self._logs[spec["name"]] = NodeLog(frames, self._cluster.log_file_bytes)
        phase = {"phase": "Running"} if group == "containerStatuses" else {}
        self._set_state(group, spec, {"running": {"startedAt": now()}}, **phase)
        return container

    def _await_end(self, group: str, spec: dict[str, Any], container: Any) -> int:
        try:
            code = int(container.wait()["StatusCode"])
            container.reload()
            is_oom = bool(container.attrs["State"]["OOMKilled"])
        except docker.errors.NotFound:
            code, is_oom = 137, False
        self._logs[spec["name"]].wait_for_end()
        reason = "OOMKilled" if is_oom else "Error" if code else "Completed"
        ended = {"exitCode": code, "reason": reason, "finishedAt": now()}
        ended |= self._find_start(group, spec["name"])
        message = self._message_file(spec).read_bytes()[-4096:].decode("utf-8", "replace")
        self._set_state(group, spec, {"terminated": {**ended, "message": message}})
        return code

    def _message_file(self, spec: dict[str, Any]) -> Path:
        return Path(self._messages.name, spec["name"])

    def _find_user_problem(self, spec: dict[str, Any]) -> str:
        """As a kubelet has it: who must not be root needs a number that says so."""
        context = self._read_security(spec)
        if not context.get("runAsNonRoot"):
            return ""
        user = context.get(
            "runAsUser", self._engine.images.get(spec["image"]).attrs["Config"]["User"]
        )
        if str(user) in ("", "0", "root"):
            return "container has runAsNonRoot and image will run as root"
        return "" if str(user).isdecimal() else "cannot verify user is non-root"

    def _read_security(self, spec: dict[str, Any]) -> dict[str, Any]:
        return {**self._spec.get("securityContext", {}), **spec.get("securityContext", {})}

    def _build_env(self, spec: dict[str, Any]) -> dict[str, str]:
        env: dict[str, str] = {}
        for entry in spec.get("env", []):
            source = entry.get("valueFrom", {}).get("secretKeyRef")
            if source is None:
                env[entry["name"]] = _expand(entry.get("value", ""), env)
            else:
                env[entry["name"]] = self._cluster.secrets[source["name"]]["stringData"][
                    source["key"]
                ]
        return env

    def _build_security(self, spec: dict[str, Any]) -> dict[str, Any]:
        context = self._read_security(spec)
        options: dict[str, Any] = {"cap_drop": context.get("capabilities", {}).get("drop", [])}
        if "runAsUser" in context:
            options["user"] = f"{context['runAsUser']}:{context.get('runAsGroup', 0)}"
        return options

    def _build_volumes(self, spec: dict[str, Any]) -> dict[str, dict[str, str]]:
        message = self._message_file(spec)
        message.touch()
        message.chmod(0o666)
        volumes = {str(message): {"bind": "/dev/termination-log", "mode": "rw"}}
        kinds = {volume["name"]: volume for volume in self._spec.get("volumes", [])}
        for mount in spec.get("volumeMounts", []):
            volume = kinds[mount["name"]]
            assert "emptyDir" in volume or "secret" in volume, (
                f"the fake cluster has no volume like {volume}"
            )
            name = f"{self._pod_name}-{mount['name']}-{self._cluster.id}"
            made = self._engine.volumes.create(name, labels=self._labels)
            os.chmod(made.attrs["Mountpoint"], 0o777)
            if "secret" in volume:
                self._fill_volume(name, volume["secret"], spec["image"])
            volumes[name] = {
                "bind": mount["mountPath"],
                "mode": "ro,nocopy" if mount.get("readOnly") else "rw,nocopy",
            }
        return volumes

    def _fill_volume(self, name: str, source: dict[str, Any], image: str) -> None:
        values = self._cluster.secrets[source["secretName"]]["stringData"]
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for item in source["items"]:
                entry = tarfile.TarInfo(item["path"])
                data = values[item["key"]].encode()
                entry.size, entry.mode = len(data), source["defaultMode"]
                tar.addfile(entry, io.BytesIO(data))
        helper = self._engine.containers.create(
            image, ["true"], volumes={name: {"bind": "/v", "mode": "rw"}}, labels=self._labels
        )
        helper.put_archive("/v", archive.getvalue())
        _remove(helper)

    def _build_limits(self, spec: dict[str, Any]) -> dict[str, Any]:
        limits = spec.get("resources", {}).get("limits", {})
        options: dict[str, Any] = {}
        if "memory" in limits:
            options["mem_limit"] = options["memswap_limit"] = int(_read_quantity(limits["memory"]))
        if self._sandbox is not None:
            options["network_mode"] = f"container:{self._sandbox.id}"
        return options


def _expand(text: str, env: dict[str, str]) -> str:
    """The expansion of the API: $(NAME) of a known variable, and $$ for one $."""
    found = re.compile(r"\$\$|\$\(([^)]*)\)")
    return found.sub(lambda hit: "$" if hit[0] == "$$" else env.get(hit[1], hit[0]), text)


def _stop_container(container: Any, grace_s: int) -> None:
    with contextlib.suppress(docker.errors.APIError):  # it has ended by itself
        container.kill() if grace_s == 0 else container.stop(timeout=grace_s)


def _remove(container: Any) -> None:
    with contextlib.suppress(docker.errors.APIError):  # somebody else removes it right now
        container.remove(force=True, v=True)


def _read_quantity(text: str) -> float:
    for suffix, factor in (
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
    ):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
