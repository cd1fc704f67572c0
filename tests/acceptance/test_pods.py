"""Steps in pods, through `manage.py worker` and `manage.py server`: the documentation's examples
with images of this machine, in a cluster whose pods really run."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from apps.jobs import services
from apps.jobs.models import Job
from apps.workspaces.services import refresh
from tests.acceptance.engines import (
    end_of,
    flow,
    kill_with_guard,
    steps,
    texts,
    unique,
    wait_for_text,
    workspace,
)
from tests.acceptance.house import free_port
from tests.apps.jobs.builders import start, until
from tests.house import House
from tests.runners.pod.fake_api import FakeCluster

pytestmark = [pytest.mark.docker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


@pytest.fixture
def cluster(docker_engine: docker.DockerClient) -> Iterator[FakeCluster]:
    """A cluster; what a test leaves in it is a failure."""
    fake = FakeCluster(docker_engine)
    yield fake
    left = [*fake.pods, *fake.secrets]
    fake.close()
    assert left == []


def status_of(url: str, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


class Site:
    """A house with a server that pods can reach, and workers that use the cluster."""

    def __init__(self, house: House, cluster: FakeCluster, image: str, folder: Path) -> None:
        self.house = house
        self.image = image
        self.kubeconfig = cluster.write_kubeconfig(folder / "kubeconfig")
        subnet = cluster.engine.networks.get("bridge").attrs["IPAM"]["Config"][0]
        address = subnet.get("Gateway") or subnet["Subnet"].rsplit(".", 1)[0] + ".1"
        port = free_port()
        self.url = f"http://{address}:{port}"
        house.env["STROEM__ALLOWED_HOSTS"] = address
        house.start("server", "--host", address, "--port", str(port))
        until(self._answers, within_s=30)

    def _answers(self) -> bool:
        try:
            return status_of(f"{self.url}/healthz") == 200
        except OSError:
            return False

    def worker(self) -> Any:
        section = {
            "namespace": "stroem-jobs",
            "allow": {"service_accounts": ["my-sa"]},
            "init_image": self.image,
            "kubeconfig": str(self.kubeconfig),
            "poll_s": 0.2,
        }
        return self.house.worker(
            unique("pods"),
            "kubernetes",
            slots=3,
            server_url=self.url,
            runner_image=self.image,
            kubernetes=section,
        )


@pytest.fixture
def site(quick_house: House, cluster: FakeCluster, base_image: str, tmp_path: Path) -> Site:
    return Site(quick_house, cluster, base_image, tmp_path)


EXAMPLES = """
gpu-test:
  type: script
  runner: pod
  script: "python3 /workspace/test_gpu.py"
look:
  type: script
  runner: pod
  input: {mode: {type: string, default: "fast"}}
  script: |
    pwd; ls
    cat "$STROEM_INPUT_FILE"
    env | grep -c STROEM_WORKSPACE_ || true
    touch new 2>&1
writable:
  type: script
  runner: pod
  workspace: copy
  source: count.sh
  args: ["a b"]
train-model:
  type: pod
  image: IMAGE
  cmd: "echo trained $STROEM_INPUT_EPOCHS; cat $STROEM_INPUT_FILE; ! ls /workspace 2>&1"
  input: {epochs: {type: integer, default: 10}}
deploy:
  type: pod
  image: IMAGE
  cmd: "echo deploy --env production"
  manifest:
    metadata: {annotations: {iam.amazonaws.com/role: my-role}}
    spec: {serviceAccountName: my-sa}
heavy-build:
  type: pod
  image: IMAGE
  cmd: "echo built"
  manifest:
    spec:
      containers:
        - name: step
          resources:
            requests: {memory: "256Mi", cpu: "500m"}
            limits: {memory: "512Mi"}
picky:
  type: pod
  image: IMAGE
  cmd: "echo placed"
  manifest:
    spec:
      nodeSelector: {gpu: "true"}
      tolerations: [{key: "gpu", operator: "Exists", effect: "NoSchedule"}]
test-with-db:
  type: pod
  image: IMAGE
  cmd: "until curl -sf http://127.0.0.1:5432/ >/dev/null; do sleep 0.1; done; echo tested"
  manifest:
    spec:
      containers:
        - name: postgres-sidecar
          image: IMAGE
          command: ["python3", "-u", "-m", "http.server", "5432"]
          env: [{name: POSTGRES_PASSWORD, value: test}]
greedy:
  type: pod
  image: IMAGE
  cmd: "true"
  manifest: {spec: {hostNetwork: true}}
memory:
  type: pod
  image: IMAGE
  resources: {memory: 32Mi}
  cmd: "head -c 300m /dev/zero | tail"
"""
FILES = """
      pack:
        {type: pod, image: IMAGE, cmd: "echo left > $ARTIFACTS_DIR/a; echo 7 > $STATE_OUT_DIR/b"}
      unpack:
        type: pod
        image: IMAGE
        cmd: "cat $ARTIFACTS_IN/pack/a $STATE_DIR/b"
        depends_on: [pack]
        artifacts: {from: [pack]}
      ask:
        type: script
        runner: pod
        script: |
          stroem-step state set seen "$(stroem-step state get seen --default 0)1"
          stroem-step artifact get pack a copy && cat copy
          stroem-step output set kept "$(stroem-step state get seen)"
        workdir: /tmp
        depends_on: [unpack]
"""


def test_the_documented_examples_run_with_files_from_the_server(
    site: Site, cluster: FakeCluster, tmp_path: Path
) -> None:
    files = {
        "workflow.yaml": (flow(EXAMPLES) + FILES.lstrip("\n")).replace("IMAGE", site.image),
        "test_gpu.py": "print('OUTPUT: {\"gpus\": 0}')\n",
        "count.sh": 'touch new && ls | wc -l; echo "[$1]"\n',
    }
    found = workspace(tmp_path, files)
    begun = start(found)
    (Path(found.location) / "later.txt").write_text("of a revision that the job has not pinned")
    refresh(found)
    site.house.scheduler()  # it prepares the storage
    site.worker()
    job = end_of(begun, within_s=120)
    done = steps(job)
    bad = {name: step.error for name, step in done.items() if step.status != "completed"}
    assert set(bad) == {"look", "greedy", "memory"}, bad
    assert done["gpu-test"].output == {"gpus": 0}
    assert texts(job, "look")[:6] == [
        "/workspace", "count.sh", "test_gpu.py", "workflow.yaml", '{"mode": "fast"}', "0",
    ]  # fmt: skip
    assert "Read-only file system" in bad["look"] and "workspace: copy" in texts(job, "look")[-1]
    assert texts(job, "writable") == ["4", "[a b]"]
    assert texts(job, "train-model")[:2] == ["trained 10", '{"epochs": 10}']
    assert texts(job, "unpack") == ["left", "7"]
    assert texts(job, "ask", "stdout")[:1] == ["left"] and done["ask"].output == {"kept": "01"}
    assert texts(job, "deploy") == ["deploy --env production"]
    assert "tested" in texts(job, "test-with-db", "stdout")  # beside lines of its sidecar
    assert bad["greedy"] == "Pod manifest override rejected: spec.hostNetwork is not allowed"
    assert "ran out of memory" in bad["memory"]
    shown = {
        pod["metadata"]["annotations"]["stroem.io/step-name"]: pod
        for pod in cluster.seen
        if pod["kind"] == "Pod"
    }
    assert shown["deploy"]["spec"]["serviceAccountName"] == "my-sa"
    assert shown["deploy"]["metadata"]["annotations"]["iam.amazonaws.com/role"] == "my-role"
    assert shown["heavy-build"]["spec"]["containers"][0]["resources"]["limits"] == {
        "memory": "512Mi"
    }
    assert shown["picky"]["spec"]["nodeSelector"] == {"gpu": "true"}
    assert "strp_" not in json.dumps(list(shown.values()))


SLEEPER = """
actions:
  hold:
    type: script
    runner: pod
    script: "echo ready; sleep 300"
tasks: {main: {flow: {hold: {action: hold}}}}
"""


def sleeper(folder: Path) -> Job:
    return start(workspace(folder, {"workflow.yaml": SLEEPER}))


def test_a_cancelled_pod_goes_at_once_and_so_does_the_worth_of_its_pass(
    site: Site, cluster: FakeCluster, tmp_path: Path
) -> None:
    site.worker()
    job = sleeper(tmp_path)
    wait_for_text(job, "hold", "ready")
    (secret,) = cluster.secrets.values()
    values = secret["stringData"].values()
    token = next(value for value in values if value.startswith("strp_"))
    url = next(value for value in values if value.startswith(f"{site.url}/worker/workspace/"))
    assert status_of(url, token) == 200
    asked_at = time.monotonic()
    services.cancel_job(job.id, actor="test")
    assert end_of(job).status == "cancelled"
    assert time.monotonic() - asked_at < 15
    assert (cluster.pods, cluster.secrets) == ({}, {})
    assert status_of(url, token) == 410
    assert status_of(url) == 401


def test_the_guard_deletes_the_pods_of_a_killed_worker(
    site: Site, cluster: FakeCluster, tmp_path: Path
) -> None:
    site.house.scheduler()
    victim = site.worker()
    job = sleeper(tmp_path)
    wait_for_text(job, "hold", "ready")
    victim.kill()
    cluster.wait_for(lambda: not cluster.pods and not cluster.secrets, 20)
    ended = end_of(job, within_s=40)
    assert (ended.status, steps(job)["hold"].error.split()[-2:]) == ("failed", ["was", "lost"])


@pytest.mark.slow
def test_what_a_worker_left_that_died_with_its_guard_is_swept_by_any_other(
    site: Site, cluster: FakeCluster, tmp_path: Path
) -> None:
    """As when the node of a worker goes: pods of other nodes live on."""
    site.house.scheduler()
    victim = site.worker()
    job = sleeper(tmp_path)
    wait_for_text(job, "hold", "ready")
    kill_with_guard(victim.pid)
    assert end_of(job, within_s=40).status == "failed"
    assert len(cluster.pods) == len(cluster.secrets) == 1
    site.worker()
    cluster.wait_for(lambda: not cluster.pods and not cluster.secrets, 20)
