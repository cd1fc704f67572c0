"""The cost of a step in a container relative to a bare `docker run` of the same image. Needs a
Docker engine."""

from __future__ import annotations

import io
import os
import shutil
import statistics
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import docker

from benchmarks.scenarios import Figures, Scenario, measure
from benchmarks.stroem_side import Side, wait

NAME = "steps in containers"
LIMIT = 1.3
STEPS, PAIRS = 4, 7
BARE = "docker run"
KINDS = {
    "type: script, runner: docker": "{type: script, runner: docker, script: 'true'}",
    "type: docker": "{type: docker, image: IMAGE, cmd: 'true'}",
}


def compare(side: Side, say: Callable[[str], None]) -> list[str]:
    """Lines for the report: each kind of step against `docker run`, measured in turn."""
    image = find_image()
    if image is None:
        return [
            "- steps in containers: not measured: no Docker engine answers, or it has no image with"
            " a shell"
        ]
    _start_worker(side, image)
    sides: dict[str, Callable[[], float]] = {BARE: lambda: _run_bare(image)}
    for number, (kind, action) in enumerate(KINDS.items()):
        name = f"containers{number}"
        side.load(name, _chain(action.replace("IMAGE", image)))
        sides[kind] = lambda name=name: side.run(name)
    return _tell(measure(Scenario(NAME, STEPS, PAIRS, sides), say))


def find_image() -> str | None:
    """An image with `sh`: STROEM_BENCH_IMAGE, or busybox from this host or its registry."""
    try:
        client = docker.from_env(timeout=60)
        named = os.environ.get("STROEM_BENCH_IMAGE")
        if named:
            client.images.get(named)
            return named
        program = Path("/bin/busybox")
        if program.exists():
            return _import(client, program)
        client.images.pull("busybox", tag="latest")
        return "busybox:latest"
    except (docker.errors.DockerException, OSError):
        return None


def _import(client: docker.DockerClient, program: Path) -> str:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(program, "bin/busybox")
        for name in ("sh", "true", "mktemp", "rm", "mkdir", "ls"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        folder = tarfile.TarInfo("tmp")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(folder)
    client.api.import_image_from_data(
        archive.getvalue(), repository="stroem-bench", tag="1", changes=["ENV PATH=/bin"]
    )
    return "stroem-bench:1"


def _start_worker(side: Side, image: str) -> None:
    from apps.fleet.models import Worker

    config = side.folder / "containers.yaml"
    config.write_text(
        f"worker_name: bench-containers\ntags: [docker]\nrunner_image: {image}\ndocker: {{pull:"
        f" missing}}\nworkspace_cache_dir: {side.folder / 'containers'}\n"
    )
    side.start(["worker", "--config", str(config)])
    wait(lambda: Worker.objects.filter(name="bench-containers", stopped_at=None).exists())


def _chain(action: str) -> str:
    nodes = [
        f"      s{i}: {{action: work{f', depends_on: [s{i - 1}]' if i else ''}}}"
        for i in range(STEPS)
    ]
    return "\n".join(
        ["actions:", f"  work: {action}", "tasks:", "  main:", "    flow:", *nodes, ""]
    )


def _run_bare(image: str) -> float:
    program = shutil.which("docker") or "docker"
    began = time.perf_counter()
    for _ in range(STEPS):
        subprocess.run(
            [program, "run", "--rm", image, "sh", "-c", "true"], check=True, capture_output=True
        )
    return time.perf_counter() - began


def _tell(figures: Figures) -> list[str]:
    bare = figures.per_step_ms(BARE)
    lines = [
        f"- a bare `docker run`: {bare:.0f} ms ({PAIRS} rounds of {STEPS}, in turn with the steps"
        " below)"
    ]
    for kind in KINDS:
        ratios = figures.ratios(kind, BARE)
        lines.append(
            f"- a step of `{kind}`: {figures.per_step_ms(kind):.0f} ms,"
            f" {statistics.median(ratios):.2f} times that (range"
            f" {min(ratios):.2f}-{max(ratios):.2f}; limit {LIMIT})"
        )
    return lines
