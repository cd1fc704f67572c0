"""What an action asks of its container, above the operator's defaults: resources, user, platform,
pull policy, shared memory, volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import AuthorError
from engine.manifest import merge
from engine.orders import ContainerWishes, ScriptWork, StepOrder
from runners.containers.limits import read_cpu_millis, read_memory_bytes
from runners.pod.config import PodConfig
from runners.pod.policy import DROPPED, STEP_CONTAINER

_PULL = {"missing": "IfNotPresent", "always": "Always", "never": "Never"}
_SHARED_MEMORY = "stroem-shm"
_SHM_PATH = "/dev/shm"  # noqa: S108 - a mount of the container, not a file here


def grant_wishes(
    spec: dict[str, Any], step: dict[str, Any], order: StepOrder, config: PodConfig
) -> None:
    """Put what the action asks for into the pod's `spec` and its container `step`."""
    wishes = order.container
    if resources := _build_resources(order):
        step["resources"] = merge(step.get("resources", {}), resources)
    if wishes.pull is not None:
        step["imagePullPolicy"] = _PULL[wishes.pull]
    if wishes.user is not None:
        is_script = isinstance(order.work, ScriptWork)
        step["securityContext"] = merge(
            step.get("securityContext", {}), _build_user(wishes.user, is_script=is_script)
        )
    if wishes.platform is not None:
        spec["nodeSelector"] = spec.get("nodeSelector", {}) | _select_nodes(wishes.platform)
    if wishes.shm_bytes is not None:
        memory = {"medium": "Memory", "sizeLimit": str(wishes.shm_bytes)}
        _mount(spec, step, _SHARED_MEMORY, {"emptyDir": memory}, _SHM_PATH)
    _mount_volumes(spec, step, wishes, config)


def find_step(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in pod["spec"]["containers"] if each["name"] == STEP_CONTAINER
    )
    return found


def _build_user(user: str, *, is_script: bool) -> dict[str, Any]:
    number, _, group = user.partition(":")
    if not number.isdecimal() or (group and not group.isdecimal()):
        raise AuthorError(
            f'user {user!r} must be numbers in a pod, for example "1000:1000": a cluster does not'
            " know names"
        )
    context: dict[str, Any] = {"runAsUser": int(number), "runAsNonRoot": int(number) != 0}
    if group or is_script:
        context["runAsGroup"] = int(group or number)
    if int(number) == 0:  # root without any capability could not even read others' files
        context["capabilities"] = {"drop": list(DROPPED)}
    return context


def _select_nodes(platform: str) -> dict[str, str]:
    system, _, rest = platform.partition("/")
    architecture = rest.partition("/")[0]
    if not system or not architecture:
        raise AuthorError(f"platform {platform!r} must look like linux/arm64")
    return {"kubernetes.io/os": system, "kubernetes.io/arch": architecture}


def _mount_volumes(
    spec: dict[str, Any], step: dict[str, Any], wishes: ContainerWishes, config: PodConfig
) -> None:
    for name, place in wishes.volumes.items():
        source = config.volumes.get(name)
        if source is None:
            known = ", ".join(sorted(config.volumes)) or "none"
            raise AuthorError(
                f"volume {name!r} is not in the worker's configuration (`kubernetes.volumes` has:"
                f" {known})"
            )
        path = place.removesuffix(":ro")
        _mount(spec, step, name, source, path, is_read_only=path != place)


def _mount(
    spec: dict[str, Any],
    step: dict[str, Any],
    name: str,
    source: Mapping[str, Any],
    path: str,
    *,
    is_read_only: bool = False,
) -> None:
    spec["volumes"] = [*spec.get("volumes", []), {"name": name, **source}]
    mount = {"name": name, "mountPath": path} | ({"readOnly": True} if is_read_only else {})
    step["volumeMounts"] = [*step.get("volumeMounts", []), mount]


def _build_resources(order: StepOrder) -> dict[str, Any]:
    amounts: dict[str, str] = {}
    if (millis := read_cpu_millis(order.resources)) is not None:
        amounts["cpu"] = f"{millis}m"
    if (memory := read_memory_bytes(order.resources)) is not None:
        amounts["memory"] = str(memory)
    resources: dict[str, Any] = (
        {"requests": dict(amounts), "limits": dict(amounts)} if amounts else {}
    )
    if order.resources.num_gpus:
        resources.setdefault("limits", {})["nvidia.com/gpu"] = str(order.resources.num_gpus)
    return resources
