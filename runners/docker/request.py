"""The create request for a step's container: pure, and the only place that says what a container
may have.

An order cannot reach fields that are not set here: no privileged mode, no devices except counted
GPUs, no host namespaces, no bind mounts except the attempt's files and the worker's start-up
scripts, never the engine's socket.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from engine.errors import AuthorError
from engine.orders import ImageWork, ScriptWork, StepOrder
from runners.containers.limits import read_cpu_millis, read_memory_bytes
from runners.containers.script import (
    CACHE,
    FILES,
    HELPER_FOLDER,
    MAIN,
    STARTUP,
    TAKEN,
    WORKSPACE,
    build_env,
    place_workdir,
    split_cmd,
)
from runners.docker.config import DockerConfig
from runners.docker.output import LOG_BOUNDS

LABEL = "stroem.io/"
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the container's directories come from: a host path, a volume's name, or None."""

    workspace_bind: str | None = None
    workspace_volume: str | None = None
    cache_volume: str | None = None
    files_bind: str | None = None
    startup_bind: str | None = None
    taken_bind: str | None = None
    helper_bind: str | None = None


def name_container(attempt: str) -> str:
    return f"stroem-{attempt}"


def build_labels(order: StepOrder, config: DockerConfig) -> dict[str, str]:
    """Labels that tell a sweep the owner of leftovers, and an operator the step of a container."""
    return {
        f"{LABEL}owner": config.owner,
        f"{LABEL}attempt": order.attempt,
        f"{LABEL}job": order.job_id,
        f"{LABEL}task": order.task_name,
        f"{LABEL}step": order.step_name,
        f"{LABEL}workspace": order.workspace,
        f"{LABEL}number": str(order.number),
    }


def name_cache_volume(order: StepOrder, config: DockerConfig) -> str | None:
    """The volume for downloads and environments, one per workspace: workspaces do not trust each
    other."""
    if (
        not config.keep_cache
        or not isinstance(order.work, ScriptWork)
        or order.work.language == "shell"
    ):
        return None
    names = config.owner, order.workspace
    # without the digest, `a b` and `a-b` would share one
    digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    return "-".join(["stroem-cache", *(_UNSAFE.sub("-", name) for name in names), digest])


def build_request(
    order: StepOrder, config: DockerConfig, image: str, sources: Sources
) -> dict[str, Any]:
    """The body of the engine's create call."""
    request: dict[str, Any] = {
        "Image": image,
        "Env": [f"{key}={value}" for key, value in build_env(order).items()],
        "Labels": build_labels(order, config),
        "AttachStdin": order.events is not None,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": order.events is not None,
        "StdinOnce": order.events is not None,
        "Tty": False,
        "HostConfig": _build_host_config(order, config, sources),
        **_build_command(order.work),
    }
    if isinstance(order.work, ScriptWork):
        request["WorkingDir"] = place_workdir(order.workdir)
    elif order.workdir:
        request["WorkingDir"] = order.workdir
    if order.container.user is not None:
        request["User"] = order.container.user
    return request


def _build_command(work: ScriptWork | ImageWork) -> dict[str, Any]:
    if isinstance(work, ScriptWork):
        return {"Entrypoint": ["sh", f"{FILES}/{MAIN}"], "Cmd": []}
    command: dict[str, Any] = {}
    if work.entrypoint:
        command["Entrypoint"] = list(work.entrypoint)
    if work.command:
        command["Cmd"] = list(work.command)
    elif work.cmd is not None and work.entrypoint:
        command["Cmd"] = split_cmd(work.cmd)
    elif work.cmd is not None:
        command |= {"Entrypoint": ["sh", "-c"], "Cmd": [work.cmd]}
    return command


def _build_host_config(order: StepOrder, config: DockerConfig, sources: Sources) -> dict[str, Any]:
    host: dict[str, Any] = {
        "Init": True,
        "CapDrop": ["ALL"],
        "CapAdd": list(config.capabilities),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": config.pids_limit,
        "NetworkMode": config.network or "default",
        "LogConfig": {"Type": config.log_driver, "Config": LOG_BOUNDS.get(config.log_driver, {})},
        "RestartPolicy": {"Name": "no"},
        "Mounts": [*_build_mounts(sources), *_build_volumes(order, config)],
        "ExtraHosts": [f"{name}:{address}" for name, address in config.extra_hosts.items()],
    }
    if (millis := read_cpu_millis(order.resources)) is not None:
        host["NanoCpus"] = millis * 1_000_000
    if (memory := read_memory_bytes(order.resources)) is not None:
        host["Memory"] = host["MemorySwap"] = memory
    if order.container.shm_bytes is not None:
        host["ShmSize"] = order.container.shm_bytes
    if order.resources.gpus:
        own = list(order.resources.gpus)
        host["DeviceRequests"] = [{"DeviceIDs": own, "Capabilities": [["gpu"]]}]
    elif order.resources.num_gpus:
        host["DeviceRequests"] = [{"Count": order.resources.num_gpus, "Capabilities": [["gpu"]]}]
    return host


def _build_volumes(order: StepOrder, config: DockerConfig) -> list[dict[str, Any]]:
    """The volumes that the author asks for: only what the operator has named."""
    mounts: list[dict[str, Any]] = []
    for name, target in order.container.volumes.items():
        named = config.volumes.get(name)
        if named is None:
            known = ", ".join(sorted(config.volumes)) or "none"
            raise AuthorError(
                f"volume {name!r} is not among `docker.volumes` of this worker (known: {known})"
            )
        mounts.append(
            {
                "Type": "bind" if named.volume is None else "volume",
                "Source": named.path or named.volume,
                "Target": target.removesuffix(":ro"),
                "ReadOnly": named.read_only or target.endswith(":ro"),
            }
        )
    return mounts


def _build_mounts(sources: Sources) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = []
    if sources.workspace_bind is not None:
        mounts.append(
            {
                "Type": "bind",
                "Source": sources.workspace_bind,
                "Target": WORKSPACE,
                "ReadOnly": True,
            }
        )
    if sources.files_bind is not None:
        mounts.append(
            {"Type": "bind", "Source": sources.files_bind, "Target": FILES, "ReadOnly": True}
        )
    if sources.helper_bind is not None:  # its pipes can be written to all the same
        mounts.append(
            {
                "Type": "bind",
                "Source": sources.helper_bind,
                "Target": HELPER_FOLDER,
                "ReadOnly": True,
            }
        )
    if sources.startup_bind is not None:
        mounts.append(
            {"Type": "bind", "Source": sources.startup_bind, "Target": STARTUP, "ReadOnly": True}
        )
    if sources.taken_bind is not None:
        mounts.append(
            {"Type": "bind", "Source": sources.taken_bind, "Target": TAKEN, "ReadOnly": True}
        )
    if sources.workspace_volume is not None:
        mounts.append(
            {
                "Type": "volume",
                "Source": sources.workspace_volume,
                "Target": WORKSPACE,
                "ReadOnly": True,
            }
        )
    if sources.cache_volume is not None:
        mounts.append(
            {"Type": "volume", "Source": sources.cache_volume, "Target": CACHE, "ReadOnly": False}
        )
    return mounts
