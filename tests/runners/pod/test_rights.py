"""What `doctor` says about a worker's cluster: can it be reached, and what may the worker's account
do there?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from console.health import examine_cluster
from tests.acceptance.house import manage
from tests.runners.pod.fake_api import FakeCluster

EVERY_RIGHT = [(verb, "pods") for verb in ("create", "get", "delete", "list", "watch")]
EVERY_RIGHT += [(verb, "secrets") for verb in ("create", "delete", "list")] + [("get", "pods/log")]
EVERY_RIGHT += [("list", "events")]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """A cluster in which nothing may stay."""
    fake = FakeCluster(None)
    yield fake
    fake.close()
    assert (fake.pods, fake.secrets) == ({}, {})


@pytest.fixture
def file(cluster: FakeCluster, tmp_path: Path) -> Path:
    return write(tmp_path, {"kubeconfig": str(cluster.write_kubeconfig(tmp_path / "kubeconfig"))})


def write(folder: Path, section: dict[str, Any], **settings: Any) -> Path:
    path = folder / "worker-config.yaml"
    section = {"namespace": "stroem-jobs", **section}
    settings = {
        "tags": ["kubernetes"],
        "server_url": "http://stroem:8080",
        "kubernetes": section,
        **settings,
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def said(file: Path | None) -> list[str]:
    return [f"{finding.level}: {finding.sentence}" for finding in examine_cluster(file)]


def test_an_account_that_may_do_everything_is_well(file: Path, cluster: FakeCluster):
    assert said(file) == [
        "ok: the API server answers and allows what steps need in namespace 'stroem-jobs'"
    ]
    rehearsals = [options for method, path, options in cluster.requests if path.endswith("/pods")]
    assert rehearsals == [{"dryRun": "All", "fieldValidation": "Strict"}]


@pytest.mark.parametrize(("verb", "resource"), EVERY_RIGHT)
def test_each_missing_verb_is_named_with_what_comes_of_it(
    file: Path, cluster: FakeCluster, verb: str, resource: str
):
    cluster.forbidden = {(verb, resource)}
    (sentence,) = said(file)
    level = "problem" if (verb, resource) in EVERY_RIGHT[:3] else "warning"
    assert sentence.startswith(
        f"{level}: the account may not {verb} {resource} in namespace 'stroem-jobs', so "
    )


def test_what_is_missing_together_is_one_sentence(file: Path, cluster: FakeCluster):
    cluster.forbidden = {("list", "pods"), ("watch", "pods")}
    assert said(file) == [
        "warning: the account may not list and watch pods in namespace 'stroem-jobs', so pods are"
        " polled, and leftovers of a killed worker are not found: grant it"
    ]


def test_a_namespace_that_is_not_there_is_found_by_a_rehearsal(file: Path, cluster: FakeCluster):
    cluster.absent_namespaces = {"stroem-jobs"}
    (sentence,) = said(file)
    assert sentence.startswith("problem: a pod in namespace 'stroem-jobs' would be refused: ")
    assert 'namespaces "stroem-jobs" not found' in sentence


def test_an_account_that_is_unknown_is_told_to_renew_its_credentials(
    cluster: FakeCluster, tmp_path: Path
):
    kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", token="canary-outdated")
    (sentence,) = said(write(tmp_path, {"kubeconfig": str(kubeconfig)}))
    assert (
        sentence.startswith("problem: the API server refuses this account") and "renew" in sentence
    )
    assert "canary" not in sentence


def test_a_server_that_does_not_answer_is_a_problem_with_its_remedy(tmp_path: Path):
    gone = FakeCluster(None)
    kubeconfig = gone.write_kubeconfig(tmp_path / "kubeconfig")
    gone.close()
    (sentence,) = said(write(tmp_path, {"kubeconfig": str(kubeconfig)}))
    assert (
        sentence.startswith("problem: The API server cannot be reached")
        and "`kubeconfig`" in sentence
    )


def test_a_kubeconfig_that_is_not_there_is_a_problem_with_its_remedy(tmp_path: Path):
    (sentence,) = said(write(tmp_path, {"kubeconfig": str(tmp_path / "nothing")}))
    assert (
        sentence.startswith("problem: No credentials for a cluster") and "`kubeconfig`" in sentence
    )


def test_a_worker_that_does_not_know_its_server_is_warned(cluster: FakeCluster, tmp_path: Path):
    section = {"kubeconfig": str(cluster.write_kubeconfig(tmp_path / "kubeconfig"))}
    assert "warning: scripts in pods cannot fetch their workspace: set `server_url`" in said(
        write(tmp_path, section, server_url=None)
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tags": ["script"]}, "needs the tag 'kubernetes'"),
        ({"kubernetes": {}}, "kubernetes.namespace is needed"),
    ],
)
def test_a_configuration_that_is_wrong_is_said_and_nothing_asked(
    tmp_path: Path, settings: Any, words: str
):
    (sentence,) = said(write(tmp_path, {}, **settings))
    assert sentence.startswith("problem: ") and words in sentence


def test_a_file_without_a_cluster_is_no_problem(tmp_path: Path):
    (tmp_path / "worker-config.yaml").write_text("tags: [script]\n")
    (sentence,) = said(tmp_path / "worker-config.yaml")
    assert sentence.startswith("ok: no section in ")


def test_the_command_looks_at_the_cluster_of_the_file_it_is_given(
    file: Path, cluster: FakeCluster, tmp_path: Path
):
    cluster.forbidden = {("create", "pods"), ("get", "pods/log")}
    data = tmp_path / "data"
    finished = manage("doctor", "--quiet", "--config", str(file), STROEM__DATA_DIR=str(data))
    assert finished.returncode == 1
    assert (
        "PROBLEM  kubernetes: the account may not create pods in namespace 'stroem-jobs'"
        in finished.stdout
    )
    assert (
        "warning  kubernetes: the account may not get pods/log in namespace 'stroem-jobs'"
        in finished.stdout
    )
    shutil.rmtree(data, ignore_errors=True)
