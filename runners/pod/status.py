"""What the status of a pod says about its step. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from engine.orders import HELPER
from runners.pod.policy import FILES_CONTAINER, INIT_CONTAINER, OUR_LABELS, STEP_CONTAINER
from runners.pod.record import without_record

Stage = Literal["waiting", "running", "ended", "lost", "broken"]

# These never resolve; other reasons may (an unreachable registry, an image that is being pulled).
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
# the node came back and does not know how the container ended
_UNKNOWN_END = "ContainerStatusUnknown"
KEEP_ANNOTATION = f"{OUR_LABELS}keep-failed-seconds"


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a pod.

    `waiting` (the step has not started), `running`, `ended` with `exit_code`, `lost` (the cluster
    took it away), `broken` (it can never run). `reason` is the cluster's explanation, for the
    author.
    """

    stage: Stage
    reason: str = ""
    exit_code: int | None = None
    is_out_of_memory: bool = False
    is_pull_problem: bool = False
    # the state of the step's container, once terminated
    ended: Mapping[str, Any] = field(default_factory=dict)


def look(pod: Mapping[str, Any]) -> Sight:
    """What the state of `pod` means for its step."""
    status = pod.get("status") or {}
    step = _find(status.get("containerStatuses"), STEP_CONTAINER)
    taken = _find_disruption(status)
    ended = _read_state(step, "terminated")
    if status.get("reason") == "DeadlineExceeded":
        return Sight("broken", f"The pod was ended by its activeDeadlineSeconds: {_join(status)}")
    if ended is not None and ended.get("reason") == _UNKNOWN_END:
        return Sight("lost", _join(ended))
    if ended is not None and not taken and not _is_being_deleted(pod):
        return _read_end(ended)
    if taken:
        return Sight("lost", taken)
    if ended is not None:
        return Sight("lost", "the pod was deleted while the step ran", _read_end(ended).exit_code)
    if _read_state(step, "running") is not None:
        return Sight("running")
    return _look_before_start(status, step, _find_fetched(pod))


def has_running_container(pod: Mapping[str, Any]) -> bool:
    entries = _list_entries(pod.get("status") or {})
    return any(_read_state(entry, "running") is not None for entry in entries)


def list_started(pod: Mapping[str, Any]) -> list[str]:
    """The containers that have a log: they run or have run."""
    return [
        str(entry["name"])
        for entry in _list_entries(pod.get("status") or {})
        if any(_read_state(entry, kind) is not None for kind in ("running", "terminated"))
    ]


def read_times(pod: Mapping[str, Any], container: str) -> tuple[float | None, float | None]:
    """When a container began and ended, by its node's clock, as far as that is known."""
    entry = _find(_list_entries(pod.get("status") or {}), container)
    state = _read_state(entry, "terminated") or _read_state(entry, "running") or {}
    began, ended = (state.get(key) for key in ("startedAt", "finishedAt"))
    return _read_time(began), _read_time(ended)


def read_end(pod: Mapping[str, Any], container: str) -> Mapping[str, Any] | None:
    """The state of a container that has terminated."""
    return _read_state(
        _find((pod.get("status") or {}).get("containerStatuses"), container), "terminated"
    )


def see_helper(pod: Mapping[str, Any], sight: Sight) -> Sight:
    """A step waits in vain for a container that was killed; what ends in order says why, or with
    0."""
    ended = read_end(pod, FILES_CONTAINER)
    if ended is None or not ended.get("exitCode") or ended.get("message"):
        return sight
    return Sight("broken", f"the container that answers `{HELPER}` has died: {_join(ended)}")


def _read_time(text: object) -> float | None:
    return datetime.fromisoformat(str(text)).timestamp() if text else None


def has_finished(pod: Mapping[str, Any]) -> bool:
    """Whether all its containers have terminated."""
    entries = (pod.get("status") or {}).get("containerStatuses") or []
    return bool(entries) and all(_read_state(entry, "terminated") for entry in entries)


def is_kept(pod: Mapping[str, Any], now: float) -> bool:
    """Whether this failed pod shall still be there at `now`, for people to look at."""
    meta, status = pod.get("metadata") or {}, pod.get("status") or {}
    keep_s = float((meta.get("annotations") or {}).get(KEEP_ANNOTATION) or 0)
    if not keep_s or _is_being_deleted(pod) or not has_finished(pod):
        return False
    step = _read_state(_find(status.get("containerStatuses"), STEP_CONTAINER), "terminated") or {}
    if not step.get("exitCode") or not step.get("finishedAt"):
        return False
    return now - datetime.fromisoformat(str(step["finishedAt"])).timestamp() < keep_s


def _read_end(ended: Mapping[str, Any]) -> Sight:
    reason = ended.get("reason") or ""
    told = ": ".join(filter(None, (reason, without_record(ended))))
    if reason in {"ContainerCannotRun", "StartError"}:
        return Sight("ended", told, int(ended.get("exitCode", 128)), ended=ended)
    return Sight(
        "ended",
        told,
        int(ended.get("exitCode", -1)),
        is_out_of_memory=reason == "OOMKilled",
        ended=ended,
    )


def _find_fetched(pod: Mapping[str, Any]) -> str:
    """What our init container fetches: an image has no workspace."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    is_taken_only = volumes and all(volume.get("name") != "workspace" for volume in volumes)
    return "the artifacts or the state that it takes" if is_taken_only else "the workspace"


def _look_before_start(status: Mapping[str, Any], step: Mapping[str, Any], fetched: str) -> Sight:
    init = _find(status.get("initContainerStatuses"), INIT_CONTAINER)
    for entry in (step, *_list_entries(status)):
        waiting = _read_state(entry, "waiting") or {}
        if waiting.get("reason") in _FATAL:
            return Sight("broken", _join(waiting))
        if waiting.get("reason") in _IMAGE:
            return Sight("waiting", _join(waiting), is_pull_problem=True)
    for entry in status.get("initContainerStatuses") or []:
        ended = _read_state(entry, "terminated") or {}
        if ended.get("exitCode"):
            return Sight(
                "broken",
                _describe_init(entry, ended, fetched if entry is init else ""),
                int(ended["exitCode"]),
            )
    if status.get("phase") == "Failed":
        reason = str(status.get("reason") or "the pod failed")
        return Sight("lost", f"{reason}: {status['message']}" if status.get("message") else reason)
    return Sight("waiting", _describe_scheduling(status))


def _describe_init(entry: Mapping[str, Any], ended: Mapping[str, Any], fetched: str) -> str:
    if fetched:
        return f"{fetched} could not be downloaded (exit code {ended['exitCode']})"
    return f"init container {entry['name']} failed (exit code {ended['exitCode']})"


def _describe_scheduling(status: Mapping[str, Any]) -> str:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _join(condition)
    for entry in _list_entries(status):
        waiting = _read_state(entry, "waiting") or {}
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return _join(waiting)
    return ""


def _find_disruption(status: Mapping[str, Any]) -> str:
    """Why the cluster took the pod away; empty when it did not."""
    if status.get("reason") in _TAKEN_AWAY or str(status.get("reason") or "").startswith("OutOf"):
        return _join(status)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return _join(condition) or "disrupted"
    return ""


def _is_being_deleted(pod: Mapping[str, Any]) -> bool:
    return (pod.get("metadata") or {}).get("deletionTimestamp") is not None


def _join(told: Mapping[str, Any]) -> str:
    return ": ".join(filter(None, (told.get("reason"), told.get("message"))))


def _list_entries(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The status of each container, init containers first."""
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _read_state(entry: Mapping[str, Any], kind: str) -> Mapping[str, Any] | None:
    return (entry.get("state") or {}).get(kind)


def _find(entries: Any, name: str) -> Mapping[str, Any]:
    for entry in entries or []:
        if entry.get("name") == name:
            found: Mapping[str, Any] = entry
            return found
    return {}
