"""An API server that refuses, denies or is silent: whose fault it is, what is said, and when the
verdict comes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.orders import ImageWork, Verdict
from runners.pod.answers import ClusterAway, Denied, Refused
from runners.pod.cluster import Cluster
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan
from runners.pod.runner import PodRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.pod.fake_api import FakeCluster, Fault
from tests.runners.pod.orders import CONFIG, build_pod_order
from tests.runners.pod.test_guarded import write_plugin


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    server = FakeCluster(None)
    yield server
    server.close()


def build_config(kubeconfig: Path, **changes: Any) -> PodConfig:
    return PodConfig("stroem-jobs", "w", kubeconfig=kubeconfig, **{"denial_s": 0.5, **changes})


@pytest.fixture
def cluster(fake: FakeCluster, tmp_path: Path) -> Cluster:
    return Cluster(build_config(fake.write_kubeconfig(tmp_path / "kubeconfig")))


@pytest.mark.parametrize("status", [401, 403])
def test_what_could_be_read_before_is_denied_for_a_while_only(
    cluster: Cluster, fake: FakeCluster, status: int
):
    assert cluster.get_pod("p") is None
    fake.faults = [Fault("get", "/pods", status)]
    fake.pods["p"] = {"metadata": {"name": "p"}}
    with pytest.raises(Denied):
        cluster.get_pod("p")
    assert cluster.get_pod("p") is not None


def test_a_right_that_was_never_there_is_refused_once_the_server_has_had_time_to_start(
    cluster: Cluster, fake: FakeCluster
):
    fake.forbidden = {("create", "pods")}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            cluster.create("pod", build_plan(build_pod_order(), CONFIG).pod)
        except Denied:
            time.sleep(0.05)
        except Refused as refusal:
            assert refusal.status == 403
            return
    pytest.fail("it was never refused")


def test_a_denial_by_something_in_front_of_the_server_is_no_verdict(
    cluster: Cluster, fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        "tests.runners.pod.fake_server.json.dumps", lambda what, **_: "<html>Forbidden</html>"
    )
    fake.faults = [Fault("get", "/pods", 403)]
    with pytest.raises(ClusterAway, match="in front of"):
        cluster.get_pod("p")


def test_credentials_that_were_revoked_are_the_platforms_fault(fake: FakeCluster, tmp_path: Path):
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig", token="revoked")
    runner = PodRunner(build_config(kubeconfig, outage_s=0.5))
    outcome = runner.run(build_order(tmp_path, work=ImageWork("any")), Log(), Stop())
    assert outcome.verdict is Verdict.LOST
    assert "credentials" in str(outcome.error)


def test_credentials_that_were_renewed_are_read_again(fake: FakeCluster, tmp_path: Path):
    path = fake.write_kubeconfig(tmp_path / "kubeconfig", token="old")
    cluster = Cluster(build_config(path))
    with pytest.raises(Denied):
        cluster.get_pod("p")
    fake.write_kubeconfig(path)
    assert cluster.get_pod("p") is None


@pytest.mark.long
@pytest.mark.parametrize("is_deaf", [True, False], ids=["never answers", "refuses connections"])
def test_the_verdict_on_a_server_that_stays_away_comes_after_one_outage(
    fake: FakeCluster, tmp_path: Path, is_deaf: bool
):
    """It is needed for the secret, for the pod, and for removing both."""
    listener = socket.create_server(("127.0.0.1", 0))
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    config = yaml.safe_load(kubeconfig.read_text())
    port = listener.getsockname()[1]
    config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{port}"
    kubeconfig.write_text(yaml.safe_dump(config))
    if not is_deaf:
        listener.close()
    runner = PodRunner(build_config(kubeconfig, outage_s=12.0, request_timeout_s=3.0))
    began = time.monotonic()
    outcome = runner.run(build_order(tmp_path, "true"), Log(), Stop())
    took_s = time.monotonic() - began
    listener.close()
    assert outcome.verdict is Verdict.LOST
    assert str(port) in str(outcome.error)
    assert ("in time" if is_deaf else "refused") in str(outcome.error).lower()
    assert took_s < 2 * 12.0  # it used to wait for each of the four anew


def test_a_plugin_that_is_not_installed_is_named(fake: FakeCluster, tmp_path: Path):
    write_plugin(fake, tmp_path / "kubeconfig", "aws-that-is-not-here")
    with pytest.raises(ClusterAway, match="'aws-that-is-not-here', which is not installed"):
        Cluster(build_config(tmp_path / "kubeconfig")).get_pod("p")


def test_a_plugin_that_fails_is_named(fake: FakeCluster, tmp_path: Path):
    write_plugin(fake, tmp_path / "kubeconfig", "false")
    with pytest.raises(ClusterAway, match="'false' of the kubeconfig gave no credentials"):
        Cluster(build_config(tmp_path / "kubeconfig")).get_pod("p")


# room


def test_a_pod_waits_for_a_quota_like_for_any_room_and_the_log_says_so(
    fake: FakeCluster, tmp_path: Path
):
    fake.quota = 0
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    runner = PodRunner(build_config(kubeconfig))
    log, stop, outcomes = Log(), Stop(), []
    thread = threading.Thread(
        target=lambda: outcomes.append(
            runner.run(build_order(tmp_path, work=ImageWork("any")), log, stop)
        )
    )
    thread.start()
    log.wait_for("waiting for room: pods")
    stop.set("cancel")
    thread.join(20)
    assert outcomes[0].verdict is Verdict.CANCELLED
    assert (fake.pods, fake.secrets) == ({}, {})


def test_a_quota_that_stays_used_up_is_told_after_the_time_that_pods_may_wait(
    fake: FakeCluster, tmp_path: Path
):
    fake.quota = 0
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    runner = PodRunner(build_config(kubeconfig, pending_timeout_s=0.5))
    outcome = runner.run(build_order(tmp_path, work=ImageWork("any")), Log(), Stop())
    assert outcome.verdict is Verdict.FAILED
    assert "exceeded quota: compute" in str(outcome.error)


def test_a_quota_on_limits_names_the_cure_and_never_our_own_container(
    fake: FakeCluster, tmp_path: Path, pinned: Any
):
    fake.requires_limits = True
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    runner = PodRunner(build_config(kubeconfig))
    order = build_order(tmp_path, "true", workspace_dir=None, pinned=pinned)
    error = str(runner.run(order, Log(), Stop()).error)
    assert "must specify limits.cpu for: step;" in error
    assert "set `resources` in the action" in error


@pytest.fixture
def pinned() -> Any:
    from engine.orders import Pinned

    return Pinned("http://stroem/pinned/r1.tar.gz", "t0ken")
