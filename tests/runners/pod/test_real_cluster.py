"""The pod runner on a real cluster: `tests/runners/pod/on_a_real_cluster.sh` says how."""

from __future__ import annotations

import os
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.orders import ContainerWishes, ImageWork, Verdict
from runners.pod.answers import ClusterAway, Refused
from runners.pod.config import PodConfig
from runners.pod.policy import PodPolicy
from runners.pod.runner import PodRunner
from tests.runners.contract import Leftovers, Log, Stop, build_order
from tests.runners.pod import test_contract

KUBECONFIG = os.environ.get("KUBECONFIG_TEST")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(KUBECONFIG is None, reason="KUBECONFIG_TEST names no cluster"),
]


@pytest.fixture
def config() -> PodConfig:
    return PodConfig(
        namespace=os.environ.get("NAMESPACE_TEST", "stroem-test"),
        owner=f"test-{uuid.uuid4().hex[:12]}",
        runner_image=os.environ.get("RUNNER_IMAGE_TEST", "debian:12-slim"),
        kubeconfig=Path(str(KUBECONFIG)),
    )


class TestOnARealCluster(test_contract.TestPodRunner):
    slack_s = 15.0  # images are pulled, and a busy node needs time

    @pytest.fixture
    def runner(self, config: PodConfig) -> PodRunner:
        return PodRunner(config)

    @pytest.fixture
    def leftovers(self, runner: PodRunner) -> Leftovers:
        def find(attempt: str) -> list[str]:
            return [attempt] if attempt in runner.find_attempts() else []

        return find

    @pytest.fixture
    def pin(self) -> Any:
        pytest.skip("pods of this cluster cannot fetch files from a test")

    def test_a_flood_is_told_truthfully(self, finish: Any) -> None:
        """More than a node keeps: it rotates at 10 MiB."""
        count = 600_000
        code = f"seq -f %064.0f 1 {count}; echo 'OUTPUT: 7'"
        outcome, log = finish(code, log_bytes=200_000_000)
        assert (outcome.verdict, outcome.output) == (Verdict.SUCCEEDED, 7)
        missing = count + 1 - len(log.texts())
        told = "\n".join(line.text for line in log.lines if line.stream == "server")
        assert missing == 0 or f"{missing} of {count + 1} lines" in told

    def test_an_output_beside_the_log_arrives(self, finish: Any, config: PodConfig) -> None:
        cmd = "echo 'OUTPUT: {\"x\": 2}' >/dev/termination-log"
        assert finish(work=ImageWork(config.runner_image, cmd=cmd))[0].output == {"x": 2}

    def test_a_script_may_ask_for_root(self, finish: Any) -> None:
        assert finish("id -u", container=ContainerWishes(user="0"))[1].texts() == ["0"]
        assert finish("id -u")[1].texts() == ["10001"]


def test_a_missing_configmap_is_told_while_the_pod_waits(config: PodConfig, tmp_path: Path) -> None:
    config = replace(config, policy=PodPolicy(config_maps=frozenset({"nothing-*"})))
    volume = {"name": "settings", "configMap": {"name": "nothing-of-that-name"}}
    manifest = {"spec": {"volumes": [volume]}}
    order = build_order(
        tmp_path, work=ImageWork(config.runner_image, cmd="true"), manifest=manifest
    )
    mount = {"name": "step", "volumeMounts": [{"name": "settings", "mountPath": "/settings"}]}
    manifest["spec"]["containers"] = [mount]
    log, stop, runner = Log(), Stop(), PodRunner(config)

    def tell(line: Any) -> None:
        log(line)
        if "nothing-of-that-name" in line.text:
            stop.set("cancel")

    assert runner.run(order, tell, stop).verdict is Verdict.CANCELLED


def test_nothing_of_these_tests_stays(config: PodConfig) -> None:
    runner = PodRunner(config)
    try:
        left = runner.cluster.list("pod", "app=stroem-step")
    except (Refused, ClusterAway) as problem:
        pytest.fail(str(problem))
    assert left == []
