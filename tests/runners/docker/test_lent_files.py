"""Containers with the files and the secrets of another workspace's action."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.docker.runner import DockerRunner
from tests.apps.jobs.builders import fresh, start
from tests.apps.jobs.lending import OWNER, SECRET, Worker, caller, grant, log_of, owner, step_of

pytestmark = pytest.mark.django_db(transaction=True)
KINDS = {
    "script": "source: deploy.sh\n    runner: docker",
    "image": 'image: IMAGE\n    cmd: "echo from the owner: {{ input.what }} $KEY"\n'
    '    env: { KEY: "{{ secret.key }}" }',
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_has_what_the_owner_gives(
    kind: str, tmp_path: Path, runner: DockerRunner, base_image: str
) -> None:
    text = OWNER.replace("source: deploy.sh", KINDS[kind].replace("IMAGE", base_image), 1)
    if kind == "image":
        text = text.replace("type: script", "type: docker", 1)
    owner(tmp_path, grant("deploy", secrets=kind == "image"), text)
    job = start(caller(tmp_path), what="tea")
    worker = Worker(tmp_path, lambda *_: runner, "docker", "script")
    try:
        assert worker.carry_out() == 1
    finally:
        worker.directory.close()
    assert fresh(job).status == "completed", step_of(job).error
    log = log_of(job)
    assert ("from the file: tea in product" if kind == "script" else "from the owner: tea") in log
    assert SECRET not in log
