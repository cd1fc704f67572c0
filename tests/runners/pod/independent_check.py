"""A second opinion on pods: what no author may get by default, looked for anywhere in the text of a pod.

Shares nothing with the policy: it knows no structure, walks every path, and names what it forbids.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]


def find_forbidden(pod: Any) -> list[str]:
    """The paths of everything forbidden in `pod`."""
    return [".".join(path) for path, value in _walk(pod, ()) if _is_forbidden(path, value)]


def _walk(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, str(key)))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, (*path, "*"))


def _is_forbidden(path: Path, value: Any) -> bool:
    if value is None or not path or "annotations" in path or "labels" in path or "nodeSelector" in path:
        return False
    key = path[-1].lower()
    if "env" in path or "args" in path or "command" in path:
        return False  # what a program is told is its own business
    if key in {"hostnetwork", "hostpid", "hostipc", "privileged", "allowprivilegeescalation"}:
        return value is not False
    if key in {"hostpath", "ephemeralcontainers", "nodename", "runtimeclassname", "volumedevices", "ownerreferences"}:
        return True
    if key in {"finalizers", "sysctls", "windowsoptions", "selinuxoptions", "serviceaccounttoken", "schedulername"}:
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
    return key in {"csi", "nfs", "iscsi", "glusterfs", "rbd", "cephfs", "flexvolume"} and "volumes" in path
