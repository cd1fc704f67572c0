"""A second opinion on pods: what no author may get by default, looked for anywhere in the text of a
pod.

Shares nothing with the policy: it knows no structure, walks every path, and names what it forbids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate

Path = tuple[str, ...]


def find_forbidden(pod: Any) -> list[str]:
    """The paths of everything forbidden in `pod`."""
    return [".".join(path) for path, value in _walk(pod, ()) if _is_forbidden(path, value)]


def find_foreign(pod: Any) -> list[str]:
    """The paths of what in `pod` belongs to others, where an API server would read it: secrets, and
    probed hosts."""
    found = [".".join(path) for path, value in _walk(pod, ()) if _is_foreign(path, value)]
    return found if found and _fits_schema(pod) else []


def _fits_schema(pod: Any) -> bool:
    try:
        kubernetes_validate.validate(pod, "1.31", strict=True)
    except kubernetes_validate.ValidationError:
        return False
    return True


def find_usurped(pod: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """What of the platform's own is not as in `expected`, the pod of the same order without any
    manifest."""
    found = []
    for kind in ("name", "namespace"):
        if pod["metadata"].get(kind) != expected["metadata"][kind]:
            found.append(f"metadata.{kind}")
    for kind in ("labels", "annotations"):
        ours = {
            key
            for key in (*pod["metadata"][kind], *expected["metadata"][kind])
            if "stroem" in key or key == "app"
        }
        found += [
            key
            for key in ours
            if pod["metadata"][kind].get(key) != expected["metadata"][kind].get(key)
        ]
    if [container["name"] for container in pod["spec"]["containers"]].count("step") != 1:
        found.append("spec.containers.step")
    found += [] if _fetchers(pod) == _fetchers(expected) else ["spec.initContainers.workspace-init"]
    return found


def _fetchers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers that hold the pass for the workspace, but for what an author may give them to
    run with."""
    found = [
        item for item in pod["spec"].get("initContainers", []) if item["name"] == "workspace-init"
    ]
    return [{key: value for key, value in item.items() if key != "resources"} for item in found]


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, (*path, "*"))


def _says_nothing(path: Path) -> bool:
    """Whether this lies in what nobody but people and schedulers reads."""
    return not {"annotations", "labels", "nodeSelector"}.isdisjoint(path)


def _is_foreign(path: Path, value: Any) -> bool:
    """An object of the cluster that nobody named for authors, or a probe that the node would send
    elsewhere."""
    if not path or _says_nothing(path):
        return False
    if path[-1:] == ("host",) and value is not None:
        return any("probe" in part.lower() or part == "lifecycle" for part in path)
    parent = path[-2].lower() if len(path) > 1 else ""
    if path[-1] in ("secretName", "claimName", "serviceAccountName", "serviceAccount"):
        is_named = True
    else:
        is_named = path[-1] == "name" and ("secret" in parent or "configmap" in parent)
    return is_named and value is not None and value != "stroem-a1b2c3-step"


def _is_forbidden(path: Path, value: Any) -> bool:
    if value is None or not path or _says_nothing(path):
        return False
    key = path[-1].lower()
    if "env" in path or "args" in path or "command" in path:
        return False  # what a program is told is its own business
    if key in {"hostnetwork", "hostpid", "hostipc", "privileged", "allowprivilegeescalation"}:
        return value is not False
    if key in {
        "hostpath",
        "ephemeralcontainers",
        "nodename",
        "runtimeclassname",
        "volumedevices",
        "ownerreferences",
    }:
        return True
    if key == "hostusers":
        return value is not False
    if key in {
        "finalizers",
        "sysctls",
        "windowsoptions",
        "selinuxoptions",
        "serviceaccounttoken",
        "schedulername",
    }:
        return True
    if key == "hostport":
        return value != 0
    if key == "procmount":
        return value != "Default"
    if path[-2:-1] == ("capabilities",) and key == "add":
        return bool(value)
    if path[-2:-1] and path[-2].lower() in {"seccompprofile", "apparmorprofile"} and key == "type":
        return str(value).lower() == "unconfined"
    if key == "namespace" and path[:-1] == ("metadata",):
        return value != "stroem-jobs"
    if key == "restartpolicy" and path == ("spec", "restartPolicy"):
        return value != "Never"
    return (
        key in {"csi", "nfs", "iscsi", "glusterfs", "rbd", "cephfs", "flexvolume"}
        and "volumes" in path
    )
