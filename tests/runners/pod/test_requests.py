"""The requests themselves: paths, verbs, parameters, headers and bodies as the API reference has
them.

Every request of the pod suite is held against the same rules, by the fake API server; here each
call stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runners.pod.answers import Refused
from runners.pod.cluster import Cluster
from runners.pod.config import PodConfig
from runners.pod.manifest import build_plan, sanitise_label
from runners.pod.told import Place
from tests.runners.pod.fake_api import FakeCluster
from tests.runners.pod.fake_contract import find_request_problems
from tests.runners.pod.orders import CONFIG, build_pod_order

NAME = "stroem-a1b2c3-step"
PODS = "/api/v1/namespaces/stroem-jobs/pods"
SECRETS = "/api/v1/namespaces/stroem-jobs/secrets"


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    server = FakeCluster(None)
    yield server
    server.close()
    assert server.complaints == []


@pytest.fixture
def cluster(fake: FakeCluster, tmp_path: Path) -> Cluster:
    kubeconfig = fake.write_kubeconfig(tmp_path / "kubeconfig")
    return Cluster(PodConfig(namespace="stroem-jobs", owner="w", kubeconfig=kubeconfig))


Call = Callable[[Cluster], Any]
CALLS: list[tuple[Call, tuple[str, str, dict[str, str]]]] = [
    (
        lambda cluster: cluster.create("secret", build_plan(build_pod_order(), CONFIG).secret or {}),
        ("POST", SECRETS, {"fieldValidation": "Strict"}),
    ),
    (
        lambda cluster: cluster.create("pod", build_plan(build_pod_order(), CONFIG).pod, is_rehearsal=True),
        ("POST", PODS, {"fieldValidation": "Strict", "dryRun": "All"}),
    ),
    (lambda cluster: cluster.get_pod(NAME), ("GET", f"{PODS}/{NAME}", {})),
    (lambda cluster: cluster.delete("pod", NAME), ("DELETE", f"{PODS}/{NAME}", {})),
    (
        lambda cluster: cluster.delete("pod", NAME, 0, "some-uid"),
        ("DELETE", f"{PODS}/{NAME}", {"gracePeriodSeconds": "0"}),
    ),
    (lambda cluster: cluster.delete("secret", NAME), ("DELETE", f"{SECRETS}/{NAME}", {})),
    (
        lambda cluster: cluster.list("secret", f"stroem.io/owner={sanitise_label('wörker 1!')}"),
        ("GET", SECRETS, {"labelSelector": "stroem.io/owner=w-rker-1"}),
    ),
    (
        lambda cluster: cluster.watch(NAME, "", 1).close(),
        (
            "GET", PODS,
            {
                "watch": "true", "fieldSelector": f"metadata.name={NAME}", "allowWatchBookmarks": "true",
                "timeoutSeconds": "1",
            },
        ),
    ),
    (
        lambda cluster: cluster.may("get", "pods/log"),
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "expected"), CALLS, ids=range(len(CALLS)))
def test_a_call_is_this_request(cluster: Cluster, fake: FakeCluster, call: Call, expected: Any):
    call(cluster)
    assert fake.requests == [expected]


@pytest.mark.parametrize(("follow", "since_s"), [(True, None), (True, 5), (False, 1)])
def test_a_log_is_asked_for_by_container_with_stamps_and_whole_seconds(
    cluster: Cluster, fake: FakeCluster, follow: bool, since_s: int | None
):
    with pytest.raises(Refused, match="not found"):
        cluster.read_log(NAME, "step", follow=follow, since_s=since_s, read_timeout_s=5)
    since = {} if since_s is None else {"sinceSeconds": str(since_s)}
    flags = {"follow": str(follow).lower(), "timestamps": "true", "container": "step"}
    assert fake.requests == [("GET", f"{PODS}/{NAME}/log", flags | since)]


def test_a_log_never_begins_less_than_a_second_ago_whatever_the_clocks_say():
    """The server refuses `sinceSeconds` below one."""
    place = Place()
    assert place.choose_since(1000.0) is None
    # by its own clock the server is far ahead
    place.note(b"2026-01-01T00:00:10.5Z line\n", now=5.0)
    for now in (-1e9, 0.0, 5.0, 1e9):
        assert (since := place.choose_since(now)) is not None
        assert since >= 1


def test_a_watch_is_resumed_with_the_version_as_it_was_told_whatever_it_looks_like(
    cluster: Cluster, fake: FakeCluster
):
    """Versions are opaque: nothing may be read out of them."""
    for version in ("18446744073709551616", "a-b.c", "7"):
        with suppress(Refused):  # this fake counts, and takes no other version
            cluster.watch(NAME, version, 1).close()
        assert fake.requests[-1][2]["resourceVersion"] == version


def test_only_the_pod_that_was_made_is_deleted(fake: FakeCluster, cluster: Cluster):
    """By its uid: another pod of that name is somebody else's."""
    fake.pods[NAME] = {"metadata": {"name": NAME, "uid": "theirs"}, "spec": {}}
    cluster.delete("pod", NAME, 1, "ours")
    assert NAME in fake.pods


def test_the_secret_of_an_attempt_can_never_be_changed():
    secret = build_plan(build_pod_order(), CONFIG).secret
    assert secret is not None
    assert secret["immutable"] is True


WRONG: list[tuple[str, dict[str, str], dict[str, Any]]] = [
    ("create", {"dryRun": "true"}, {}),
    ("create", {"field_validation": "Strict"}, {}),
    ("watch", {"watch": "True"}, {}),
    ("watch", {"watch": "true", "resourceVersion": "1", "resourceVersionMatch": "Exact"}, {}),
    ("watch", {"watch": "true", "timeoutSeconds": "0"}, {}),
    ("watch", {"watch": "true", "fieldSelector": "metadata.uid=x"}, {}),
    ("list", {"labelSelector": "stroem.io/step=x[1]"}, {}),
    ("list", {"labelSelector": f"stroem.io/step={'x' * 64}"}, {}),
    ("list", {"label_selector": "a=b"}, {}),
    ("log", {"sinceSeconds": "0"}, {}),
    ("log", {"sinceSeconds": "1.5"}, {}),
    ("log", {"sinceSeconds": "1", "sinceTime": "2026-01-01T00:00:00Z"}, {}),
    ("log", {"container": "Not A Name"}, {}),
    ("log", {"stream": "stdout"}, {}),
    ("delete", {"gracePeriodSeconds": "-1"}, {}),
    ("delete", {}, {"gracePeriodSeconds": 1.5}),
    ("delete", {}, {"preconditions": {"name": "x"}}),
    ("delete", {}, {"force": True}),
    ("review", {}, {"spec": {}}),
    ("review", {}, {"spec": {"resourceAttributes": {"resources": "pods"}}}),
]


@pytest.mark.parametrize(("verb", "options", "body"), WRONG)
def test_a_wrong_request_is_noticed(verb: str, options: dict[str, str], body: dict[str, Any]):
    headers = {"Content-Type": "application/json"}
    assert list(find_request_problems(verb, options, headers, body))


def test_what_is_sent_and_taken_is_json():
    assert list(
        find_request_problems("get", {}, {"Accept": "application/vnd.kubernetes.protobuf"}, {})
    )
    assert list(
        find_request_problems(
            "delete", {}, {"Content-Type": "text/plain"}, {"gracePeriodSeconds": 1}
        )
    )
