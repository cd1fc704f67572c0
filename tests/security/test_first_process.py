"""In a container, a local step finds no key of the worker in the environment of any process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from apps.jobs.models import Job
from tests.apps.jobs.builders import start, until, workspace
from tests.house import ROOT, House

pytestmark = [pytest.mark.root, pytest.mark.django_db(transaction=True)]
CANARY = "word-of-mine-81b2"
HELD = {"STROEM_ADMIN_PASSWORD": CANARY, "VAULT_TOKEN": CANARY, "BIG": CANARY + "x" * 100_000}
ENTER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
LOOK = "actions: {{look: {{type: script, script: 'cat /proc/[0-9]*/environ > {file}'}}}}\n"
FLOW = LOOK + "tasks: {{main: {{flow: {{a: {{action: look}}}}}}}}\n"


def test_the_environment_of_the_first_process_is_empty(
    tmp_path: Path, process_env: dict[str, str]
) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text(f"worker_name: one\ntags: [script]\nworkspace_cache_dir: {tmp_path}/cache\n")
    keys = {"STROEM_KEYS": ",".join(settings.STROEM_KEYS)}
    house = House(tmp_path, process_env | HELD | keys)
    job = start(workspace(tmp_path, FLOW.format(file=tmp_path / "seen")))
    log = (tmp_path / "worker.log").open("wb")
    worker = subprocess.Popen(
        [*ENTER, sys.executable, str(ROOT / "manage.py"), "worker", "--config", str(config)],
        env=house.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        until(lambda: Job.objects.get(pk=job.pk).completed_at, 60)
    finally:
        for first in psutil.Process(worker.pid).children():
            first.terminate()
        worker.wait(60)
    seen = (tmp_path / "seen").read_bytes().split(b"\0")
    assert any(entry.startswith(b"STROEM_JOB_ID=") for entry in seen)  # of the step itself
    assert b"STROEM_ENVIRONMENT_PIPE" in b"".join(seen)  # of the first process
    for name in ("STROEM_KEYS", "STROEM__DB__URL", "STROEM__BROKER__URL", *HELD):
        assert house.env[name].encode() not in b"\0".join(seen), name
    assert "steps can read credentials" not in (tmp_path / "worker.log").read_text()


def test_a_worker_tells_of_keys_that_steps_can_read(
    tmp_path: Path, process_env: dict[str, str]
) -> None:
    """Started by a shell that keeps them."""
    config = tmp_path / "worker.yaml"
    config.write_text(f"worker_name: two\ntags: [script]\nworkspace_cache_dir: {tmp_path}/cache\n")
    log = tmp_path / "worker.log"
    command = f"{sys.executable} {ROOT}/manage.py worker --config {config} >{log} 2>&1; true"
    shell = subprocess.Popen(["sh", "-c", command], env=process_env, process_group=0)
    try:
        until(lambda: log.exists() and "worker two:" in log.read_text(), 60)
        told = f"steps can read credentials in /proc/{shell.pid}/environ"
        assert told in log.read_text()
    finally:
        os.killpg(shell.pid, 15)
        shell.wait(60)


def test_an_environment_of_any_size_is_handed_over_or_refused(tmp_path: Path) -> None:
    script = tmp_path / "show.py"
    text = f"import sys; sys.path.insert(0, {str(ROOT)!r});"
    text += "from stroem_project import handover; handover.settle(); import os;"
    text += "print(len(os.environ.get('A0', '')), os.environ.get('ODD'), os.getpid())"
    script.write_text(text)
    for count, expected in ((2, "100000 \udcff 1"), (12, "larger than 1 MB")):
        env = {f"A{number}": "x" * 100_000 for number in range(count)}
        done = subprocess.run(
            [*ENTER, sys.executable, str(script)],
            env={**env, "PATH": "/nowhere", "ODD": "\udcff", "PYTHONIOENCODING": "utf-8:surrogateescape"},
            capture_output=True, text=True, errors="surrogateescape", timeout=60,
            executable="/usr/bin/unshare",
        )  # fmt: skip
        assert expected in done.stdout + done.stderr
