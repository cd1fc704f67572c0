"""A worker in a Slurm allocation: what it serves, what the node offers, when it may leave."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from engine.resources import split_tags
from engine.spec.tags import ANY_SCHEDULER, SLURM_PREFIX, SUBMITS
from workers import node_environment, slurm
from workers.config import WorkerConfig

log = logging.getLogger("stroem.worker")
STARTING_S = 60.0  # of an allocation's time, for starting up; not counted against `runtime`
MOST_SLOTS = 64  # of a worker that packs: the resources are the limit
_NUMBERS = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True, slots=True)
class AllocationPlace:
    """The allocation that this worker runs in. `num_nodes`: how many nodes its steps may use;
    `ends_at`: in seconds since 1970, None without a limit; `number`: of the Slurm job."""

    id: UUID
    scheduler: str
    num_nodes: int = 1
    ends_at: float | None = None
    number: str = ""
    walltime_s: float | None = None
    is_of_node: bool = False  # each node has a worker
    pass_env: tuple[str, ...] = ()  # variables that steps see, by name or pattern
    output_dir: str | None = None  # the job's, on the host that requested the allocation

    @classmethod
    def here(
        cls,
        id: UUID,
        scheduler: str,
        environ: Mapping[str, str] = os.environ,
        pass_env: Collection[str] = (),
        output_dir: str | None = None,
    ) -> AllocationPlace:
        """The place that Slurm's environment describes: all nodes, or one where each node has its
        own worker."""
        is_of_node = environ.get("SLURM_STEP_ID", "").isdigit()
        nodes = "1" if is_of_node else environ.get("SLURM_JOB_NUM_NODES", "1")
        number = environ.get("SLURM_JOB_ID", "")
        ends_at, walltime_s = _times(environ, number)
        return cls(
            id,
            scheduler,
            int(nodes) if nodes.isdigit() else 1,
            ends_at,
            number,
            walltime_s,
            is_of_node,
            tuple(pass_env),
            output_dir,
        )

    @property
    def offers(self) -> dict[str, float | int]:
        """Resources besides processors, memory and GPUs. A step as long as the allocation fits."""
        found: dict[str, float | int] = {"num_nodes": self.num_nodes}
        return found if self.ends_at is None else {**found, "ends_at": self.ends_at + STARTING_S}

    @property
    def left_s(self) -> float:
        """Seconds until the allocation ends."""
        return float("inf") if self.ends_at is None else self.ends_at - time.time()

    def environment(
        self, hosts: Path, withheld: Collection[str] = (), environ: Mapping[str, str] = os.environ
    ) -> dict[str, str]:
        """What steps see of the allocation. `hosts` is written where each node has a worker."""
        found = node_environment.slurm_variables(environ)
        if self.is_of_node:
            found = node_environment.of_one_node(found, hosts)
        return {**node_environment.passed(self.pass_env, withheld, environ), **found}

    def serves(self, key: str) -> bool:
        """Only steps that ask for nodes run here; other workers take the job's other steps."""
        return any(tag.startswith(SLURM_PREFIX) for tag in split_tags(key)[0])


def configure(
    config: WorkerConfig,
    place: AllocationPlace,
    max_parallel: int | None,
    environ: Mapping[str, str] = os.environ,
) -> WorkerConfig:
    """The settings of a worker in this allocation: its tags, and either a number of slots or the
    node's resources."""
    tags = {
        *config.tags,
        "script",
        SLURM_PREFIX + place.scheduler,
        SLURM_PREFIX + ANY_SCHEDULER,
    } - {SUBMITS}
    node = environ.get("SLURM_NODEID", "0")
    name = f"slurm-{environ.get('SLURM_JOB_ID', place.id)}-{node}"
    fixed = replace(config, worker_name=name, tags=tuple(sorted(tags)))
    if max_parallel is not None:
        return replace(
            fixed,
            max_concurrent=_with_users(config, max_parallel),
            num_cpus=None,
            memory=None,
            num_gpus=None,
        )
    cpus = config.num_cpus or float(environ.get("SLURM_CPUS_ON_NODE") or os.cpu_count() or 1)
    gpus = config.num_gpus if config.num_gpus is not None else _count_gpus(environ)
    return replace(
        fixed,
        max_concurrent=_with_users(config, max(1, min(MOST_SLOTS, int(cpus)))),
        num_cpus=cpus,
        memory=config.memory or _memory(environ),
        num_gpus=gpus,
    )


def _with_users(config: WorkerConfig, slots: int) -> int:
    """No more slots than users, where each slot has one."""
    return min(slots, len(config.run_as)) if len(config.run_as) > 1 else slots


def _count_gpus(environ: Mapping[str, str]) -> int:
    """The number of GPUs of this node; Slurm and CUDA write `0,1` or `0-3`."""
    for name in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "CUDA_VISIBLE_DEVICES"):
        parts = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
        if parts:
            return sum(_span(part) for part in parts)
    return 0


def _span(part: str) -> int:
    found = _NUMBERS.fullmatch(part)
    return int(found[2]) - int(found[1]) + 1 if found and found[2] else 1


def _memory(environ: Mapping[str, str]) -> int:
    """The allocation's bytes on this node; without a limit, all. Slurm counts in megabytes."""
    per_node, per_cpu = environ.get("SLURM_MEM_PER_NODE"), environ.get("SLURM_MEM_PER_CPU")
    if per_node and per_node.isdigit() and int(per_node):
        return int(per_node) * 1024**2
    if per_cpu and per_cpu.isdigit() and int(per_cpu):
        return int(per_cpu) * int(environ.get("SLURM_CPUS_ON_NODE") or 1) * 1024**2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _times(environ: Mapping[str, str], number: str) -> tuple[float | None, float | None]:
    """When Slurm takes the nodes back, and for how long it gave them: from the environment of newer
    versions, else from squeue."""
    begun, end = environ.get("SLURM_JOB_START_TIME", ""), environ.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return float(end), float(end) - float(begun) if begun.isdigit() else None
    try:
        left_s, walltime_s = slurm.times_of(number) if number else (None, None)
    except slurm.SlurmError as error:
        log.warning("the end of this allocation is not known: %s", error)
        return None, None
    return None if left_s is None else time.time() + left_s, walltime_s


def check_config_mode(file: Path) -> str | None:
    """A sentence if other users may read the file with this worker's credentials."""
    if file.stat().st_mode & 0o077:
        return f"{file} can be read by other users; set its mode to 0600"
    return None
