"""A cluster for this test process, and a house whose workers ask it for nodes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.site import Site

HERE = Path(__file__).parent
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the cluster needs Slurm."""
    for item in items:
        if HERE in item.path.parents and "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("slurm")
            item.add_marker(
                pytest.mark.timeout(300)
            )  # a whole site of processes starts; others may want the processors


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    os.environ["PATH"] += f"{os.pathsep}/usr/sbin"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"Slurm cannot run here: {', '.join(missing) or 'it needs root'}")
    found = Cluster()
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path, process_env: dict[str, str]) -> Iterator[Site]:
    """Scheduler and a worker that calls sbatch are for the test to start."""
    found = Site(cluster, tmp_path, process_env)
    yield found
    found.close()
