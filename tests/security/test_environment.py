"""What local steps and commands of workflow actions find in their environment: an allow list, and
what the operator names in `pass_env`. Never what the worker holds for itself."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest
from celery import Celery

from apps.artifacts import ledger as artifacts
from apps.artifacts.state import ledger as states
from apps.jobs import bells, ledger
from apps.jobs.models import Job
from apps.triggers import ledger as events
from apps.workflow_actions import ledger as allocations
from apps.workflow_actions.models import JobAction
from apps.workspaces.ledger import archive, pass_for
from engine.slurm_script import Launch
from tests.apps.jobs.builders import start, until, workspace
from tests.workers.conftest import celery_app as celery_app
from workers.assembly import assemble
from workers.config import WorkerConfig
from workers.door import Doors

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions: {look: {type: script, script: 'env > "FOLDER/step"'}}
tasks:
  main:
    flow: {a: {action: look}}
    workflow_actions:
      - {name: it, trigger_type: on_workflow_start, action_type: run_commands,
         commands: ['env > "FOLDER/command"']}
"""
HELD = {
    "VAULT_TOKEN": "s.vault",
    "VAULT_ADDR": "https://vault.internal",
    "AWS_ACCESS_KEY_ID": "AKIA1",
    "AWS_SECRET_ACCESS_KEY": "aws-secret",
    "AWS_SESSION_TOKEN": "aws-session",
    "SOPS_AGE_KEY": "AGE-SECRET-KEY-1",
    "SOPS_AGE_KEY_FILE": "/etc/keys.txt",
    "DOCKER_HOST": "tcp://engine:2375",
    "KUBECONFIG": "/etc/kube",
    "GOOGLE_APPLICATION_CREDENTIALS": "/etc/gcp.json",
    "SSH_AUTH_SOCK": "/run/agent",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
    "NPM_TOKEN": "npm",
    "STROEM__DB__URL": "postgresql://stroem:word-of-db@db/stroem",
    "OTHER_DB": "postgresql://stroem:word-of-db@db/other",
    "MINE": "7",
    "SITE_HOME": "/site",
    "SITE_TOKEN": "site-token",
    "SITE_URL": "see word-of-db",
}
USUAL = frozenset(
    """PATH HOME LANG LANGUAGE TZ SHELL USER LOGNAME TMPDIR PWD OLDPWD SHLVL _ ARTIFACTS_DIR
    GIT_CEILING_DIRECTORIES""".split()
)
OURS = ("STROEM_", "_STROEM", "TORC_", "LC_")


def env_of(file: Path) -> dict[str, str]:
    return dict(line.partition("=")[::2] for line in file.read_text().splitlines() if "=" in line)


LOOKED_FOR = {
    (): set(),
    ("SITE_*", "MINE", "OTHER_DB"): {"SITE_HOME", "MINE"},
    ("*", "NPM_TOKEN"): {
        *("NPM_TOKEN", "MINE", "SITE_HOME", "VAULT_ADDR", "DOCKER_HOST", "KUBECONFIG"),
        *("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS"),
    },
}


@pytest.mark.parametrize("pass_env", LOOKED_FOR)
def test_steps_and_commands_see_of_what_the_worker_holds_only_what_pass_env_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, celery_app: Celery, pass_env: tuple[str, ...]
) -> None:
    for name, value in HELD.items():
        monkeypatch.setenv(name, value)
    config = WorkerConfig("mine", tmp_path / "cache", max_concurrent=2, pass_env=pass_env)
    doors = Doors(
        ledger, allocations, events, artifacts, bells, archive, pass_for, celery_app, states
    )
    launch = Launch(("stroem-worker",), str(tmp_path), None)
    worker = assemble(
        config, doors, launch, lease_s=30.0, version="test", withheld=["word-of-db"]
    )  # fmt: skip
    try:
        assert worker.open(Event())
        job = start(workspace(tmp_path, FLOW.replace("FOLDER", str(tmp_path))))
        until(lambda: Job.objects.get(pk=job.pk).completed_at, 60)
        until(lambda: JobAction.objects.get(job_id=job.pk).status == "succeeded", 60)
    finally:
        worker.worker.drain(0.0, Event())
        worker.close()
    for found in (env_of(tmp_path / "step"), env_of(tmp_path / "command")):
        seen = {name for name in HELD if name in found}
        assert seen == LOOKED_FOR[pass_env]
        assert {found[name] for name in seen} == {HELD[name] for name in seen}
        assert not any("word-of-db" in value for value in found.values())
        if not pass_env:
            others = (name for name in found.keys() - USUAL if not name.startswith(OURS))
            assert set(others) == set()
