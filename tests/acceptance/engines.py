"""What tests ask of jobs whose steps run on an engine: their lines, their lives, and what is left
of them."""

from __future__ import annotations

import json
import os
import signal
import textwrap
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import docker

from apps.jobs.models import Job, LogChunk, Step
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from tests.apps.jobs.builders import fresh, until
from tests.standalone.processes import guard_of


def unique(word: str) -> str:
    """A worker's name that no other test has: engines are shared."""
    return f"{word}-{uuid.uuid4().hex[:8]}"


def workspace(folder: Path, files: Mapping[str, str]) -> Workspace:
    """A workspace of these files, imported."""
    name = unique("ws")
    for path, text in files.items():
        target = folder / name / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    found = import_folder(name, folder / name)
    assert not found.has_failed, found.problems
    return found


def flow(actions: str, **more: str) -> str:
    """A workspace file whose task `main` runs every one of the actions, under their own names."""
    body = textwrap.indent(textwrap.dedent(actions).strip("\n"), "  ")
    names = [line.strip().rstrip(":") for line in body.splitlines() if line[2:3].isalpha()]
    nodes = "".join(f"      {name}: {{action: {name}}}\n" for name in names)
    head = "".join(f"{key}: {value}\n" for key, value in more.items())
    return f"{head}actions:\n{body}\ntasks:\n  main:\n    flow:\n{nodes}"


def end_of(job: Job, within_s: float = 60.0) -> Job:
    until(lambda: fresh(job).completed_at is not None, within_s=within_s, every_s=0.05)
    return fresh(job)


def steps(job: Job) -> dict[str, Step]:
    return {step.name: step for step in Step.objects.filter(job_id=job.id)}


def texts(job: Job, step: str, stream: str = "") -> list[str]:
    """What a step's log says, in the order of its lines."""
    chunks = (
        LogChunk.objects.filter(job_id=job.id)
        .order_by("attempt_id", "seq")
        .values_list("lines", flat=True)
    )
    found = [json.loads(line) for chunk in chunks for line in chunk.splitlines()]
    return [
        line["line"] for line in found if line["step"] == step and stream in ("", line["stream"])
    ]


def wait_for_text(job: Job, step: str, text: str, within_s: float = 30.0) -> None:
    until(lambda: text in texts(job, step), within_s=within_s, every_s=0.05)


def left(engine: docker.DockerClient, job: Job) -> list[str]:
    """Containers, volumes and networks that bear the job's label."""
    mine = {"label": f"stroem.io/job={job.id}"}
    return [
        *(
            container.name
            for container in engine.containers.list(all=True, filters=mine, ignore_removed=True)
        ),
        *(volume.name for volume in engine.volumes.list(filters=mine)),
        *(network.name for network in engine.networks.list(filters=mine)),
    ]


@dataclass(frozen=True)
class Life:
    """One container of a step, as the engine saw it."""

    name: str
    began: float
    ended: float | None


class Witness:
    """Hears from an engine when containers of steps begin and end. An engine remembers its last 256
    events only, and other tests use it too: so it is listened to from the beginning."""

    def __init__(self) -> None:
        self._began: dict[tuple[str, str], float] = {}
        self._ended: dict[str, float] = {}
        self._client = docker.from_env(timeout=None)
        self._events = self._client.events(
            filters={"type": "container", "label": "stroem.io/job"}, decode=True
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def lives(self, job: Job) -> list[Life]:
        """The step containers of a job, first things first."""
        found = [
            Life(name, at, self._ended.get(name))
            for (of, name), at in self._began.copy().items()
            if of == str(job.id)
        ]
        return sorted(found, key=lambda life: life.began)

    def close(self) -> None:
        self._events.close()
        self._listener.join(10)
        self._client.close()

    def _listen(self) -> None:
        for event in self._events:
            about, at = event["Actor"]["Attributes"], event["timeNano"] / 1e9
            if event["Action"] == "start":
                self._began[about["stroem.io/job"], about["name"]] = at
            elif event["Action"] == "die":
                self._ended[about["name"]] = at


def kill_with_guard(worker: int) -> None:
    """SIGKILL to a worker and to its guard."""
    for pid in (guard_of(worker), worker):
        os.kill(pid, signal.SIGKILL)
