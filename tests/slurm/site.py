"""Stroem at a site with Slurm: a host that submits, and nodes whose workers come out of
allocations."""

from __future__ import annotations

import os
import subprocess
import textwrap
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from apps.fleet.models import Allocation, Worker
from apps.jobs.models import Attempt, Job, Step
from apps.workspaces.models import Workspace
from tests.apps.jobs import builders
from tests.apps.jobs.builders import fresh, until
from tests.house import House
from tests.slurm.cluster import Cluster

ENDED = ("complete", "failed", "lost")


class Site(House):
    """One test's processes; its allocations are the cluster's jobs that bear its scheduler's
    name."""

    def __init__(
        self, cluster: Cluster, folder: Path, env: dict[str, str], **recovery: object
    ) -> None:
        recovery = {
            "heartbeat_timeout_secs": 30,
            "sweep_interval_secs": 5,
            "unmatched_step_timeout_secs": 5,
        } | recovery
        super().__init__(folder, env | cluster.environment, **recovery)
        self.cluster = cluster
        self.scheduler_name = f"s{uuid.uuid4().hex[:8]}"
        self.worker_config = self.write_config("node.yaml")

    def write_config(self, name: str, **worker: Any) -> Path:
        """The file that workers on nodes read: addresses, key and their own settings, for nobody
        else to see."""
        recovery = {
            key.rpartition("__")[2].lower(): value
            for key, value in self.env.items()
            if "RECOVERY__" in key
        }
        settings = {
            "db": {"url": self.env["STROEM__DB__URL"]},
            "broker": {"url": self.env["STROEM__BROKER__URL"]},
            "data_dir": os.environ["STROEM__DATA_DIR"],
            "recovery": {key: _plain(value) for key, value in recovery.items()},
            "worker": {
                "workspace_cache_dir": str(self.folder / "node"),
                "output_root": str(self.folder / "output"),
                **worker,
            },
        }
        file = self.folder / name
        file.write_text(yaml.safe_dump(settings))
        file.chmod(0o600)
        return file

    def submitter(
        self, name: str = "login", *more: str, **settings: Any
    ) -> subprocess.Popen[bytes]:
        """A worker that can call sbatch."""
        return self.worker(
            name, "slurm", *more, **{"output_root": str(self.folder / "output")} | settings
        )

    def workspace(self, text: str, **scheduler: Any) -> Workspace:
        """A workspace of this text, in which SCHED is the name of a Slurm scheduler with these
        settings."""
        values = {
            "account": "lab",
            "walltime": "00:05:00",
            "worker_config": str(self.worker_config),
            **scheduler,
        }
        head = (
            "slurm_schedulers:"
            f" {yaml.safe_dump({self.scheduler_name: values}, default_flow_style=True, width=10000)}"
        )
        return builders.workspace(
            self.folder, head + textwrap.dedent(text).replace("SCHED", self.scheduler_name)
        )

    def close(self) -> None:
        numbers = [number for number, _ in self.slurm_jobs() if number]
        if numbers:
            subprocess.run(
                ["scancel", *numbers],
                env=os.environ | self.cluster.environment,
                timeout=30,
                check=False,
            )
        super().close()
        until(
            lambda: all(state not in ("RUNNING", "COMPLETING") for _, state in self.slurm_jobs()),
            within_s=60,
        )

    def slurm_jobs(self) -> list[tuple[str, str]]:
        return self.cluster.queue(self.scheduler_name)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def explain(self, job: Job) -> str:
        """What a failed test should show."""
        rows = [
            *Allocation.objects.filter(job_id=job.id).values_list(
                "status", "state", "slurm_job_id", "error", "nodes"
            ),
            *Step.objects.filter(job_id=job.id).values_list("name", "status", "error"),
        ]
        logs = [
            f"--- {file.name}\n{file.read_text()[-3000:]}" for file in self.folder.rglob("*.log")
        ]
        return "\n".join([*map(str, rows), *map(str, self.slurm_jobs()), *logs])


def _plain(value: str) -> float | str:
    return float(value) if value.replace(".", "", 1).isdigit() else value


def end_of(site: Site, job: Job, within_s: float = 60) -> Job:
    try:
        until(lambda: fresh(job).completed_at is not None, within_s=within_s, every_s=0.1)
    except AssertionError:
        raise AssertionError(site.explain(job)) from None
    return fresh(job)


def allocations(job: Job) -> list[Allocation]:
    return list(Allocation.objects.filter(job_id=job.id).order_by("requested_at", "number"))


def states(job: Job) -> list[str]:
    return [row.status for row in allocations(job)]


def until_ended(site: Site, job: Job, within_s: float = 60) -> list[Allocation]:
    """The job's allocations once all of them have ended."""
    try:
        until(
            lambda: (rows := states(job)) and all(row in ENDED for row in rows),
            within_s=within_s,
            every_s=0.1,
        )
    except AssertionError:
        raise AssertionError(site.explain(job)) from None
    return allocations(job)


def workers_of(job: Job, steps: Iterable[str] | None = None) -> dict[str, str]:
    """Step -> the name of the worker that ran it last."""
    names = dict(Worker.objects.values_list("id", "name"))
    rows = Attempt.objects.filter(job_id=job.id).order_by("id").values_list("step_id", "worker_id")
    of_step = dict(Step.objects.filter(job_id=job.id).values_list("id", "name"))
    found = {of_step[step]: names[worker] for step, worker in rows if step in of_step}
    return found if steps is None else {name: found[name] for name in steps}


def error_of(job: Job, step: str) -> str:
    return str(Step.objects.values_list("error", flat=True).get(job_id=job.id, name=step))
