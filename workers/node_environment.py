"""What steps and workflow actions see of their worker's environment besides the usual: what
`pass_env` of the worker or of a Slurm scheduler lets through and, in an allocation, Slurm's own
variables. Never a credential of ours."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

# Settings, tokens and addresses of database and broker, by name; other variables that contain one
# are recognised by value.
_PREFIXES = (
    "STROEM",
    "DJANGO_",
    "PG",
    "CELERY_",
    "REDIS",
    "VALKEY",
    "RABBITMQ",
    "AMQP",
    "BROKER_",
    "DATABASE_",
    "SLURM_JWT",
)
_SHORTEST = 6  # shorter values are not credentials
_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "GPU_DEVICE_ORDINAL")
# Every step gets its own of these.
_OWN = frozenset("PATH HOME USER LOGNAME SHELL PWD OLDPWD SHLVL _ TMPDIR VIRTUAL_ENV".split())
# A pattern does not let these through: they are passed only by their full name.
_CREDENTIAL = re.compile(
    r"TOKEN|PASSW|SECRET|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|AGE_KEY|COOKIE|JWT",
    re.IGNORECASE,
)
_CREDENTIAL_IN_ADDRESS = re.compile(r"://[^/\s@]*@")
# About the task that the worker itself is, where srun has started one on each node. An MPI program
# or an srun in a step must not take itself for a part of that.
_OF_WORKER = re.compile(
    r"SLURM_(STEP|SRUN|CPU_BIND|PMI|MPI|GTIDS|PROCID|LOCALID|TASK_PID|LAUNCH|TASKS_PER_NODE"
    r"|NTASKS|NPROCS|DISTRIBUTION|JOB_CPUS_PER_NODE|UMASK|PRIO_PROCESS)|PMI_|PMIX_"
)


def slurm_variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Slurm's variables, which `srun` and MPI need, without its token."""
    return {
        name: value
        for name, value in environ.items()
        if (name.startswith("SLURM") or name in _GPUS) and not name.startswith("SLURM_JWT")
    }


def of_one_node(variables: Mapping[str, str], hosts: Path) -> dict[str, str]:
    """`variables` as if this node alone were the allocation. `hosts` is written: srun starts its
    tasks on the nodes that it lists, one a line."""
    node = variables.get("SLURMD_NODENAME", "")
    cpus = _whole(variables.get("SLURM_CPUS_ON_NODE"))
    tasks = max(1, cpus // _whole(variables.get("SLURM_CPUS_PER_TASK")))
    hosts.write_text(f"{node}\n" * tasks)
    hosts.chmod(0o644)
    return {
        **{name: value for name, value in variables.items() if not _OF_WORKER.match(name)},
        "SLURM_NNODES": "1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_NODELIST": node,
        "SLURM_JOB_NODELIST": node,
        "SLURM_NODEID": "0",
        "SLURM_JOB_CPUS_PER_NODE": str(cpus),
        "SLURM_TASKS_PER_NODE": str(tasks),
        "SLURM_NTASKS": str(tasks),
        "SLURM_NPROCS": str(tasks),
        "SLURM_DISTRIBUTION": "arbitrary",
        "SLURM_HOSTFILE": str(hosts),
    }


def passed(
    patterns: Collection[str], withheld: Collection[str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables that these names or patterns let through; `withheld` are values that nothing
    does."""
    secrets = [value for value in withheld if len(value) >= _SHORTEST]
    harmless = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_PREFIXES) and not any(secret in value for secret in secrets)
    }
    return dict(_passed(frozenset(patterns), harmless))


def _passed(patterns: frozenset[str], environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        is_of_slurm = name.startswith(("SLURM", "PMI_", "PMIX_")) and name != "SLURM_CONF"
        if name in _OWN or is_of_slurm:
            continue
        is_secret = _CREDENTIAL.search(name) or _CREDENTIAL_IN_ADDRESS.search(value)
        if name in patterns or (
            not is_secret and any(fnmatchcase(name, pattern) for pattern in patterns)
        ):
            yield name, value


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdigit() and int(text) else 1
