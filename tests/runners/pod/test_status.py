"""What a pod's status means for its step."""

from __future__ import annotations

from typing import Any

import pytest

from runners.pod.status import look


def pod(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    meta = {"name": "p"} | status.pop("metadata", {})
    if state is not None:
        status["containerStatuses"] = [{"name": "step", "state": state}, *status.pop("others", [])]
    return {"metadata": meta, "status": {"phase": "Pending", **status}}


DISRUPTED = [
    {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "gone",
    }
]
UNSCHEDULABLE = [
    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no memory"}
]


@pytest.mark.parametrize(
    ("seen", "stage", "reason"),
    [
        (pod(), "waiting", ""),
        (pod({"waiting": {"reason": "ContainerCreating"}}), "waiting", "ContainerCreating"),
        (pod(conditions=UNSCHEDULABLE), "waiting", "Unschedulable: no memory"),
        (
            pod({"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}),
            "waiting",
            "manifest unknown",
        ),
        (pod({"waiting": {"reason": "InvalidImageName"}}), "broken", "InvalidImageName"),
        (pod({"waiting": {"reason": "ErrImageNeverPull"}}), "broken", "ErrImageNeverPull"),
        (
            pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}),
            "broken",
            "no secret",
        ),
        (pod({"running": {}}, phase="Running"), "running", ""),
        (
            pod({"terminated": {"exitCode": 0, "reason": "Completed"}}, phase="Running"),
            "ended",
            "Completed",
        ),
        (pod({"terminated": {"exitCode": 3, "reason": "Error"}}, phase="Failed"), "ended", "Error"),
        (
            pod(phase="Failed", reason="Evicted", message="low on memory"),
            "lost",
            "Evicted: low on memory",
        ),
        (pod(phase="Failed", reason="NodeLost"), "lost", "NodeLost"),
        (pod(phase="Failed", reason="OutOfcpu"), "lost", "OutOfcpu"),
        (pod({"terminated": {"exitCode": 137}}, reason="Evicted"), "lost", "Evicted"),
        (
            pod({"terminated": {"exitCode": 143}}, conditions=DISRUPTED),
            "lost",
            "PreemptionByScheduler: gone",
        ),
        (
            pod({"terminated": {"exitCode": 143}}, metadata={"deletionTimestamp": "now"}),
            "lost",
            "deleted",
        ),
        (pod(phase="Failed"), "lost", "failed"),
        (pod(phase="Unknown"), "waiting", ""),
    ],
)
def test_a_look_at_a_pod(seen: dict[str, Any], stage: str, reason: str):
    sight = look(seen)
    assert sight.stage == stage
    assert reason in sight.reason


def test_the_step_ends_when_its_container_does_whatever_sidecars_do():
    sidecar = {"name": "side", "state": {"running": {}}}
    sight = look(pod({"terminated": {"exitCode": 0}}, phase="Running", others=[sidecar]))
    assert (sight.stage, sight.exit_code) == ("ended", 0)


def test_a_sidecar_that_ends_does_not_end_the_step():
    sidecar = {"name": "side", "state": {"terminated": {"exitCode": 1}}}
    assert look(pod({"running": {}}, phase="Running", others=[sidecar])).stage == "running"


def test_out_of_memory_is_told_apart():
    sight = look(pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}))
    assert (sight.stage, sight.is_out_of_memory) == ("ended", True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("workspace-init", "could not be downloaded"), ("before", "init container before failed")],
)
def test_an_init_container_that_fails_is_named(name: str, reason: str):
    status = [{"name": name, "state": {"terminated": {"exitCode": 22}}}]
    sight = look(pod(phase="Failed", initContainerStatuses=status))
    assert (sight.stage, sight.exit_code) == ("broken", 22)
    assert reason in sight.reason
