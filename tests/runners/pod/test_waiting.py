"""What a pod waits for is told while it waits; and failed pods stay if the operator wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import Verdict
from runners.pod.runner import PodRunner
from tests.runners.contract import Log, Run, Stop, build_order
from tests.runners.pod.fake_api import FakeCluster

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]
CONFIGMAP = 'MountVolume.SetUp failed for volume "settings": configmap "settings" not found'


@pytest.fixture
def begin(tmp_path: Path, cluster: FakeCluster) -> Iterator[Callable[..., Run]]:
    with ThreadPoolExecutor(4) as pool:
        runs: list[Run] = []

        def start(runner: PodRunner, code: str = "true") -> Run:
            order, log, stop = build_order(tmp_path, code), Log(), Stop()
            run = Run(order, log, stop, pool.submit(runner.run, order, log, stop))
            runs.append(run)
            return run

        yield start
        for run in runs:
            if not run.future.done():
                run.stop.set()


def test_events_are_told_while_a_pod_waits(
    begin: Callable[..., Run], runner: PodRunner, cluster: FakeCluster
):
    cluster.missing_volume = CONFIGMAP
    run = begin(runner)
    run.log.wait_for(f"Pod is waiting: FailedMount: {CONFIGMAP}")
    assert not run.future.done()


def test_an_event_is_the_reason_of_a_pod_that_never_starts(
    begin: Callable[..., Run], make_runner: Any, cluster: FakeCluster
):
    cluster.missing_volume = CONFIGMAP
    outcome = begin(make_runner(pending_timeout_s=1.0)).outcome()
    assert outcome.verdict is Verdict.FAILED
    assert f"(FailedMount: {CONFIGMAP})" in str(outcome.error)


def test_a_scheduler_without_room_is_told_once(
    begin: Callable[..., Run], make_runner: Any, cluster: FakeCluster
):
    cluster.is_unschedulable = True
    run = begin(make_runner(pending_timeout_s=3.0))
    run.log.wait_for("Pod is waiting: Unschedulable: 0/3 nodes are available")
    name = cluster.wait_for(lambda: next(iter(cluster.pods), None))
    uid = cluster.pods[name]["metadata"]["uid"]
    cluster.note_event(uid, "FailedScheduling", "0/3 nodes are available: 3 Insufficient memory.")
    run.outcome()
    assert len([line for line in run.log.lines if "0/3 nodes" in line.text]) == 1


def test_an_account_that_may_not_read_events_loses_nothing_else(
    begin: Callable[..., Run], make_runner: Any, cluster: FakeCluster
):
    cluster.missing_volume = CONFIGMAP
    cluster.forbidden = {("list", "events")}
    outcome = begin(make_runner(pending_timeout_s=1.0)).outcome()
    assert "stuck in Pending state for 1s (ContainerCreating)" in str(outcome.error)


def test_a_failed_pod_stays_for_people_and_a_sweep_takes_it_later(
    begin: Callable[..., Run],
    make_runner: Any,
    cluster: FakeCluster,
    docker_engine: docker.DockerClient,
):
    keeping = make_runner(keep_failed_s=3600.0)
    run = begin(keeping, "echo boom; exit 3")
    assert run.outcome().verdict is Verdict.FAILED
    (name,) = cluster.pods
    assert any(f"describe pod {name}" in line.text for line in run.log.lines)
    assert cluster.secrets == {}
    keeping.sweep(frozenset())
    assert run.order.attempt not in keeping.find_attempts()
    assert name in cluster.pods
    cluster.pods[name]["metadata"]["annotations"]["stroem.io/keep-failed-seconds"] = "0"
    keeping.sweep(frozenset())
    cluster.wait_for(lambda: not cluster.pods)


def test_a_pod_that_ended_well_does_not_stay(
    begin: Callable[..., Run], make_runner: Any, cluster: FakeCluster
):
    assert begin(make_runner(keep_failed_s=3600.0)).outcome().verdict is Verdict.SUCCEEDED
    assert cluster.pods == {}
