"""What the status of a pod says about its step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from runners.pod.policy import INIT_CONTAINER, STEP_CONTAINER

Stage = Literal["waiting", "running", "ended", "lost", "broken"]

# Waiting for these is waiting in vain; the others may pass (a registry that is away, an image on
# its way).
_FATAL = frozenset(
    {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}
)
_IMAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "CrashLoopBackOff", "RegistryUnavailable"})
_TAKEN_AWAY = frozenset(
    {
        "Evicted", "NodeLost", "NodeShutdown", "Terminated", "Shutdown", "Preempting", "Preempted",
        "UnexpectedAdmissionError", "NodeAffinity", "DeadNode",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a pod.

    `waiting` (nothing of the step has run), `running`, `ended` with `exit_code`, `lost` (taken away
    by the cluster), `broken` (it can never run). `reason` is what the cluster says about it, for
    the author.
    """

    stage: Stage
    reason: str = ""
    exit_code: int | None = None
    is_out_of_memory: bool = False
    is_pull_problem: bool = False


def look(pod: Mapping[str, Any]) -> Sight:
    """What `pod`, as the API server tells it, means for its step."""
    status = pod.get("status") or {}
    step = _find(status.get("containerStatuses"), STEP_CONTAINER)
    taken = _find_disruption(status)
    ended = (step.get("state") or {}).get("terminated")
    if ended is not None and not taken and not _is_being_deleted(pod):
        return _read_end(ended)
    if taken:
        return Sight("lost", taken)
    if ended is not None:
        return Sight("lost", "the pod was deleted while the step ran", _read_end(ended).exit_code)
    if (step.get("state") or {}).get("running") is not None:
        return Sight("running")
    return _look_before_start(status, step)


def has_running_container(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    groups = (status.get("containerStatuses") or [], status.get("initContainerStatuses") or [])
    return any(
        (entry.get("state") or {}).get("running") is not None for group in groups for entry in group
    )


def list_started(pod: Mapping[str, Any]) -> list[str]:
    """The containers that have something to say: they run or have run."""
    status = pod.get("status") or {}
    entries = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    return [
        str(entry["name"])
        for entry in entries
        if (entry.get("state") or {}).keys() & {"running", "terminated"}
        and any((entry["state"].get(key) is not None) for key in ("running", "terminated"))
    ]


def is_terminated(pod: Mapping[str, Any], container: str) -> bool:
    status = pod.get("status") or {}
    entries = [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]
    return (_find(entries, container).get("state") or {}).get("terminated") is not None


def _read_end(ended: Mapping[str, Any]) -> Sight:
    reason = str(ended.get("reason") or "")
    message = str(ended.get("message") or "")
    told = f"{reason}: {message}" if reason and message else reason or message
    if reason in {"ContainerCannotRun", "StartError"}:
        return Sight("ended", told, int(ended.get("exitCode", 128)))
    return Sight(
        "ended", told, int(ended.get("exitCode", -1)), is_out_of_memory=reason == "OOMKilled"
    )


def _look_before_start(status: Mapping[str, Any], step: Mapping[str, Any]) -> Sight:
    init = _find(status.get("initContainerStatuses"), INIT_CONTAINER)
    for entry in (
        step,
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ):
        waiting = (entry.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        told = f"{reason}: {waiting['message']}" if waiting.get("message") else reason
        if reason in _FATAL:
            return Sight("broken", told)
        if reason in _IMAGE:
            return Sight("waiting", told, is_pull_problem=True)
    for entry in status.get("initContainerStatuses") or []:
        ended = (entry.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            return Sight(
                "broken", _describe_init(entry is init, entry, ended), int(ended["exitCode"])
            )
    if status.get("phase") == "Failed":
        reason = str(status.get("reason") or "the pod failed")
        return Sight("lost", f"{reason}: {status['message']}" if status.get("message") else reason)
    return Sight("waiting", _describe_scheduling(status))


def _describe_init(is_ours: bool, entry: Mapping[str, Any], ended: Mapping[str, Any]) -> str:
    if is_ours:
        return f"the workspace could not be downloaded (exit code {ended['exitCode']})"
    return f"init container {entry['name']} failed (exit code {ended['exitCode']})"


def _describe_scheduling(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    for entry in (
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ):
        waiting = (entry.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    return ""


def _find_disruption(status: Mapping[str, Any]) -> str:
    """Why the cluster took the pod away; empty when it did not."""
    told = ": ".join(filter(None, (status.get("reason"), status.get("message"))))
    if status.get("reason") in _TAKEN_AWAY or str(status.get("reason") or "").startswith("OutOf"):
        return told
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return (
                ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
                or "disrupted"
            )
    return ""


def _is_being_deleted(pod: Mapping[str, Any]) -> bool:
    return (pod.get("metadata") or {}).get("deletionTimestamp") is not None


def _find(entries: Any, name: str) -> Mapping[str, Any]:
    for entry in entries or []:
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry
            return found
    return {}
