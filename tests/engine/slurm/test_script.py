"""The script that Slurm is given: the same text for the same request, with nothing secret in it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import AuthorError
from engine.slurm_script import Launch, Request, build, clusters_of, pass_env_of, worker_config_of
from engine.slurm_states import status_of, why_waiting

HERE = Path(__file__).parent
LAUNCH = Launch(
    ("/opt/stroem/bin/python", "/opt/stroem/manage.py", "worker"),
    "/opt/stroem",
    "/etc/stroem/nodes.yaml",
)
JOB, ALLOCATION = "0199d1b5-0000-7000-8000-000000000001", "5f3c2a10-0000-5000-8000-000000000002"
SCHEDULER = {
    "account": "lab42",
    "walltime": "04:00:00",
    "partition": "gpu",
    "gres": "gpu:4",
    "nodes": 2,
    "mem": "90G",
    "qos": "high",
    "ntasks_per_node": 8,
    "extra": "--mail-type=FAIL --exclusive",
    "worker_config": "/home/ann/stroem nodes.yaml",
    "defaults": {"requeue": True, "mem": "1G", "constraint": "skylake", "contiguous": False},
}
PER_NODE = Request(
    JOB, ALLOCATION, "gpu cluster", "/scratch/ann/output", per_node=True, max_parallel=8
)
PLAIN = Request(JOB, ALLOCATION, "small", "/scratch/ann/output")


@pytest.mark.parametrize(
    ("file", "scheduler", "request_"),
    [("per_node.sh", SCHEDULER, PER_NODE), ("plain.sh", {"account": "lab42"}, PLAIN)],
    ids=["per node", "plain"],
)
def test_the_script_is_the_one_that_is_kept_beside_this_test(
    file: str, scheduler: dict, request_: Request
) -> None:
    assert build(scheduler, request_, LAUNCH) == (HERE / file).read_text(encoding="utf-8")


SET_UP = {
    "account": "lab42",
    "worker_config": "/etc/w.yaml",
    "setup": "module load gcc\nexport OMP_NUM_THREADS=4\n",
    "pass_env": ["OMP_*", "LD_LIBRARY_PATH"],
}


@pytest.mark.parametrize(
    ("file", "request_"),
    [("setup.sh", PLAIN), ("setup_per_node.sh", replace(PER_NODE, max_parallel=None))],
)
def test_lines_of_the_site_come_before_each_worker(file: str, request_: Request) -> None:
    script = build(SET_UP, request_, LAUNCH)
    assert script == (HERE / file).read_text(encoding="utf-8")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("scheduler", "names"),
    [
        ({}, ()),
        ({"setup": "x"}, ("*",)),
        ({"setup": "x", "pass_env": []}, ()),
        ({"pass_env": ["A"]}, ("A",)),
    ],
)
def test_what_a_scheduler_sets_up_reaches_steps(scheduler: dict, names: tuple) -> None:
    assert pass_env_of({"account": "lab", **scheduler}) == names


def test_the_order_of_the_settings_does_not_matter() -> None:
    backwards = dict(reversed(SCHEDULER.items())) | {
        "defaults": dict(reversed(SCHEDULER["defaults"].items()))
    }
    assert build(backwards, PER_NODE, LAUNCH) == build(SCHEDULER, PER_NODE, LAUNCH)


def test_a_directory_with_odd_characters_stays_one_word() -> None:
    script = build(
        {"account": "lab"}, Request(JOB, ALLOCATION, "s", "/scratch/my 100% runs"), LAUNCH
    )
    assert '#SBATCH --output="/scratch/my 100%% runs/slurm-s-%j.log"' in script.splitlines()


@pytest.mark.parametrize(
    ("scheduler", "output_dir"),
    [
        ({"account": "lab\nrm -rf /"}, "/out"),
        ({"account": "lab", "defaults": {"comment": "a\rb"}}, "/out"),
        ({"account": "lab"}, "/out\nrm"),
    ],
)
def test_what_would_be_a_line_of_its_own_is_refused(scheduler: dict, output_dir: str) -> None:
    with pytest.raises(AuthorError, match="is not one line of text"):
        build(scheduler, Request(JOB, ALLOCATION, "s", output_dir), LAUNCH)


def test_a_scheduler_without_worker_config_is_refused_with_what_to_write() -> None:
    with pytest.raises(
        AuthorError, match=r"Slurm scheduler 'small' names no `worker_config`.*slurm_worker_config"
    ):
        worker_config_of({"account": "lab"}, Launch(("worker",), "/"), "small")


@pytest.mark.parametrize(
    ("scheduler", "clusters"),
    [
        ({}, ()),
        ({"extra": "--exclusive -M mpp2"}, ("mpp2",)),
        ({"extra": "-Mmpp2,mpp3"}, ("mpp2", "mpp3")),
        ({"extra": "--clusters=mpp2 --exclusive"}, ("mpp2",)),
        ({"extra": "--cluster mpp2"}, ("mpp2",)),
        ({"extra": "--exclusive", "defaults": {"clusters": "mpp2"}}, ("mpp2",)),
    ],
)
def test_the_clusters_that_a_scheduler_asks_are_known(scheduler: dict, clusters: tuple) -> None:
    assert clusters_of({"account": "lab", **scheduler}) == clusters


def test_a_reason_that_does_not_pass_by_itself_is_explained() -> None:
    assert why_waiting("Priority") == "Priority"
    assert why_waiting("PartitionTimeLimit") == (
        "PartitionTimeLimit (the walltime is longer than the partition allows)"
    )
    assert why_waiting("ReqNodeNotAvail, UnavailableNodes:n1").endswith("drained or reserved)")


@pytest.mark.parametrize(
    ("state", "was_cancelled", "status"),
    [
        ("PENDING", False, "pending"),
        ("CONFIGURING", False, "pending"),
        ("REQUEUED", False, "pending"),
        ("RUNNING", False, "active"),
        ("COMPLETING", False, "active"),
        ("COMPLETED", False, "complete"),
        ("CANCELLED by 0", True, "complete"),
        ("CANCELLED+", False, "failed"),
        ("TIMEOUT", False, "failed"),
        ("OUT_OF_MEMORY", False, "failed"),
        ("FAILED", True, "failed"),
        ("NODE_FAIL", False, "lost"),
        ("BOOT_FAIL", False, "lost"),
    ],
)
def test_every_state_of_slurms_is_one_of_ours(state: str, was_cancelled: bool, status: str) -> None:
    assert status_of(state, was_cancelled=was_cancelled) == status
