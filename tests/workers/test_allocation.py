"""A worker in an allocation: what Slurm's environment says it has, and how long."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from workers import slurm
from workers.allocation import AllocationPlace, check_config_mode, configure
from workers.config import WorkerConfig

PLACE = AllocationPlace(uuid.uuid4(), "gpu")
WHOLE = {
    "SLURM_JOB_ID": "71",
    "SLURM_NODEID": "1",
    "SLURM_CPUS_ON_NODE": "8",
    "SLURM_MEM_PER_NODE": "2000",
}


@pytest.fixture
def config(tmp_path: Path) -> WorkerConfig:
    return WorkerConfig("node", tmp_path, tags=("script", "slurm", "fast"))


def test_a_worker_that_packs_offers_what_slurm_gave_it(config: WorkerConfig) -> None:
    found = configure(config, PLACE, None, {**WHOLE, "SLURM_JOB_GPUS": "0-2,5"})
    assert found.worker_name == "slurm-71-1"
    assert found.tags == ("fast", "script", "slurm:_any", "slurm:gpu")  # it submits nothing itself
    assert found.offers == {"num_cpus": 8.0, "memory_bytes": 2000 * 1024**2, "num_gpus": 4}
    assert found.max_concurrent == 8


def test_memory_by_processor_is_summed_up(config: WorkerConfig) -> None:
    environ = {"SLURM_CPUS_ON_NODE": "8", "SLURM_MEM_PER_CPU": "500"}
    assert configure(config, PLACE, None, environ).memory == 4000 * 1024**2


def test_a_worker_that_counts_offers_nothing_in_particular(config: WorkerConfig) -> None:
    found = configure(config, PLACE, 3, WHOLE)
    assert found.max_concurrent == 3 and found.offers == {}


def test_one_worker_for_all_nodes_has_them_and_a_worker_of_a_node_has_one() -> None:
    environ = {"SLURM_JOB_NUM_NODES": "4", "SLURM_JOB_END_TIME": "2000"}
    alone = AllocationPlace.here(PLACE.id, "gpu", environ)
    assert (alone.num_nodes, alone.ends_at) == (4, 2000.0)
    # a step as long as the allocation fits into it
    assert alone.offers == {"num_nodes": 4, "ends_at": 2060.0}
    assert AllocationPlace.here(PLACE.id, "gpu", {**environ, "SLURM_STEP_ID": "0"}).num_nodes == 1


def test_without_a_limit_there_is_no_end(monkeypatch) -> None:
    monkeypatch.setattr(slurm, "times_of", lambda number: (None, None))
    place = AllocationPlace.here(PLACE.id, "gpu", {"SLURM_JOB_ID": "5"})
    assert place.left_s == float("inf") and "ends_at" not in place.offers


def test_steps_see_what_slurm_says_but_no_token(tmp_path: Path) -> None:
    environ = {
        "SLURM_JOB_ID": "1",
        "SLURMD_NODENAME": "n1",
        "SLURM_JWT": "x",
        "CUDA_VISIBLE_DEVICES": "0",
        "HOME": "/",
        "MYVAR": "1",
    }
    assert PLACE.environment(tmp_path / "hosts", (), environ) == {
        "SLURM_JOB_ID": "1",
        "SLURMD_NODENAME": "n1",
        "CUDA_VISIBLE_DEVICES": "0",
    }


@pytest.mark.parametrize(
    ("patterns", "seen"),
    [
        (["OMP_*"], {"OMP_NUM_THREADS"}),
        (["MYVAR", "LD_*"], {"MYVAR", "LD_LIBRARY_PATH"}),
        (["*"], {"OMP_NUM_THREADS", "MYVAR", "LD_LIBRARY_PATH", "BASH_FUNC_module%%"}),
        # by its full name only; what is Stroem's own, never
        (["GITHUB_TOKEN", "GIT_REMOTE"], {"GITHUB_TOKEN", "GIT_REMOTE"}),
        (["STROEM_CONFIG", "STROEM__DB__URL", "DATA", "SLURM_JWT", "PGPASSWORD", "PATH"], set()),
    ],
)
def test_what_passes_from_the_allocation_to_steps(
    tmp_path: Path, patterns: list[str], seen: set[str]
) -> None:
    environ = {
        "OMP_NUM_THREADS": "4",
        "MYVAR": "1",
        "LD_LIBRARY_PATH": "/opt/lib",
        "BASH_FUNC_module%%": "() { :; }",
        "GITHUB_TOKEN": "t",
        "GIT_REMOTE": "https://me:word@example.org/x",
        "STROEM_CONFIG": "/c",
        "STROEM__DB__URL": "postgresql://x",
        "DATA": "see postgresql://me:hidden-word@db/x",
        "PGPASSWORD": "x",
        "SLURM_JWT": "x",
        "PATH": "/bin",
        "HOME": "/root",
        "TMPDIR": "/tmp",
    }
    place = replace(PLACE, pass_env=tuple(patterns))
    assert set(place.environment(tmp_path / "hosts", ["hidden-word"], environ)) == seen


def test_where_each_node_has_a_worker_steps_see_this_node_as_the_allocation(tmp_path: Path) -> None:
    environ = {
        "SLURM_JOB_ID": "7",
        "SLURMD_NODENAME": "n2",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_NNODES": "3",
        "SLURM_JOB_NUM_NODES": "3",
        "SLURM_NODELIST": "n[1-3]",
        "SLURM_JOB_NODELIST": "n[1-3]",
        "SLURM_NTASKS": "3",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "n[1-3]",
        "SLURM_PROCID": "1",
        "SLURM_NODEID": "1",
        "SLURM_CPU_BIND": "none",
        "PMI_RANK": "1",
    }
    place = replace(PLACE, is_of_node=True, pass_env=("*",))
    found = place.environment(tmp_path / "hosts", (), environ)
    assert found == {
        "SLURM_JOB_ID": "7",
        "SLURMD_NODENAME": "n2",
        "SLURM_CPUS_ON_NODE": "8",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_NNODES": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NODELIST": "n2",
        "SLURM_JOB_NODELIST": "n2",
        "SLURM_NODEID": "0",
        "SLURM_JOB_CPUS_PER_NODE": "8",
        "SLURM_TASKS_PER_NODE": "4",
        "SLURM_NTASKS": "4",
        "SLURM_NPROCS": "4",
        "SLURM_DISTRIBUTION": "arbitrary",
        "SLURM_HOSTFILE": str(tmp_path / "hosts"),
    }
    assert (tmp_path / "hosts").read_text() == "n2\n" * 4


def test_it_serves_what_asks_for_nodes_alone() -> None:
    assert PLACE.serves("script+slurm:gpu+need:cpus:2") and not PLACE.serves("script")


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("")
    file.chmod(0o640)
    assert check_config_mode(file) == f"{file} can be read by other users; set its mode to 0600"
    file.chmod(0o600)
    assert check_config_mode(file) is None


def test_the_walltime_is_what_slurm_granted(tmp_path: Path, monkeypatch) -> None:
    program = tmp_path / "squeue"
    program.write_text("#!/bin/sh\necho '0:40|1-00:01:00'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm.times_of("5") == (40.0, 86460.0)
    assert AllocationPlace.here(PLACE.id, "gpu", {"SLURM_JOB_ID": "5"}).walltime_s == 86460.0
    told = {"SLURM_JOB_START_TIME": "1000", "SLURM_JOB_END_TIME": "1600"}
    assert AllocationPlace.here(PLACE.id, "gpu", told).walltime_s == 600.0


@pytest.mark.parametrize(
    ("printed", "seconds"),
    [
        ("3:04\n", 184.0),
        ("02:03:04\n", 7384.0),
        ("1-02:03:04\n", 93784.0),
        ("UNLIMITED\n", None),
        ("INVALID\n", None),
    ],
)
def test_the_time_that_is_left_is_read_from_squeue(
    tmp_path: Path, monkeypatch, printed: str, seconds
) -> None:
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\nprintf '{printed.strip()}\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm.times_of("5") == (seconds, None)
    before = time.time()
    place = AllocationPlace.here(PLACE.id, "gpu", {"SLURM_JOB_ID": "5"})
    assert (
        place.ends_at is None
        if seconds is None
        else before + seconds <= place.ends_at <= time.time() + seconds
    )
