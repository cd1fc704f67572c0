"""The script that Slurm runs: deterministic, readable, and without credentials.

The options come in Torc's order; those that Torc leaves unordered are sorted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import AuthorError

_OWN = ("nodes", "partition", "qos", "gres", "mem", "tmp", "ntasks_per_node")
_CLUSTERS = re.compile(r"\s(?:-M[= ]?|--clusters?[= ])\s*([^\s\"']+)")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a worker on a node: the command line without the allocation's options, and the
    working directory. `worker_config` is the default for schedulers that name none."""

    command: tuple[str, ...]
    directory: str
    worker_config: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What one allocation is for."""

    job_id: str
    allocation_id: str
    scheduler: str
    output_dir: str
    per_node: bool = False
    max_parallel: int | None = None

    @property
    def name(self) -> str:
        """The name in Slurm's queue, by which an allocation is found if its id was not saved in
        time."""
        return f"stroem-{_NOT_IN_NAMES.sub('-', self.scheduler)[:40]}-{self.allocation_id}"


def clusters_of(scheduler: Mapping[str, Any]) -> tuple[str, ...]:
    """The clusters that the scheduler's options name; empty for the one that Slurm's programs ask
    anyway."""
    defaults = scheduler.get("defaults", {})
    named = _CLUSTERS.search(f" {scheduler.get('extra', '')}")
    text = named[1] if named else str(defaults.get("clusters") or defaults.get("cluster") or "")
    return tuple(word for word in text.split(",") if word)


def worker_config_of(scheduler: Mapping[str, Any], launch: Launch, name: str) -> str:
    """The file with the worker's settings. Raises AuthorError when none is named."""
    found = scheduler.get("worker_config") or launch.worker_config
    if not found:
        raise AuthorError(
            f"Slurm scheduler '{name}' names no `worker_config`, and neither does"
            " `slurm_worker_config` in the settings of the worker that calls sbatch: name the file"
            " (mode 0600) that workers on nodes read"
        )
    return str(found)


def build(scheduler: Mapping[str, Any], request: Request, launch: Launch) -> str:
    """The script for one call of sbatch. Raises AuthorError when no `worker_config` is known."""
    config = worker_config_of(scheduler, launch, request.scheduler)
    name = _NOT_IN_NAMES.sub("-", request.scheduler)
    log = f"{request.output_dir.replace('%', '%%')}/slurm-{name}-%j.log"
    if " " in log:
        log = f'"{log}"'
    lines = [
        "#!/bin/bash",
        f"#SBATCH --account={scheduler['account']}",
        f"#SBATCH --job-name={request.name}",
        f"#SBATCH --time={scheduler.get('walltime', '01:00:00')}",
        f"#SBATCH --output={log}",
        f"#SBATCH --error={log}",
        *_options(scheduler),
    ]
    if scheduler.get("extra"):
        lines.append(f"#SBATCH {scheduler['extra']}")
    for line in lines:
        if not line.isprintable():
            raise AuthorError(
                f"Slurm scheduler '{request.scheduler}' cannot be used: {line!r} is not one line of"
                " text"
            )
    return "\n".join([*lines, "", *_body(scheduler, request, launch, config), ""])


def _options(scheduler: Mapping[str, Any]) -> Sequence[str]:
    """Defaults of the specification, overridden by the scheduler's own options."""
    own = {key.replace("_", "-"): scheduler[key] for key in _OWN if scheduler.get(key) is not None}
    options = {**scheduler.get("defaults", {}), **own}
    options.pop("account", None)
    found = []
    for key in sorted(options):
        if options[key] is True:
            found.append(f"#SBATCH --{key}")
        elif options[key] is not False:
            found.append(f"#SBATCH --{key}={options[key]}")
    return found


def _body(
    scheduler: Mapping[str, Any], request: Request, launch: Launch, config: str
) -> Sequence[str]:
    command = shlex.join(_worker(scheduler, request, launch, config))
    lines = [f"cd {shlex.quote(launch.directory)}", f"export STROEM_CONFIG={shlex.quote(config)}"]
    setup = str(scheduler.get("setup") or "").strip("\n")
    if setup:
        lines += ["stroem_setup() {", setup, "}"]
    if not request.per_node:
        return [*lines, *(_set_up(request, launch) if setup else ()), f"exec {command}"]
    if setup:
        lines.append("export -f stroem_setup")
        inner = "; ".join((*_set_up(request, launch), 'exec "$@"'))
        command = f"bash -c {shlex.quote(inner)} bash {command}"
    # srun refuses more than one of these, and Slurm may have set several.
    lines.append('[ -z "${SLURM_MEM_PER_NODE:-}" ] || unset SLURM_MEM_PER_CPU SLURM_MEM_PER_GPU')
    # Steps may call srun, too: the workers overlap with theirs, and end one by one.
    starter = (
        'exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES"'
        " --ntasks-per-node=1 --overlap --cpu-bind=none --kill-on-bad-exit=0 --wait=0 "
    )
    return [*lines, starter + command]


def _worker(
    scheduler: Mapping[str, Any], request: Request, launch: Launch, config: str
) -> Sequence[str]:
    arguments = [
        *launch.command, "--config", config, "--job", request.job_id, "--allocation",
        request.allocation_id,
        "--scheduler", request.scheduler, "--output-dir", request.output_dir,
    ]  # fmt: skip
    if request.max_parallel is not None:
        arguments += ["--max-parallel-jobs", str(request.max_parallel)]
    for name in pass_env_of(scheduler):
        arguments += ["--pass-env", name]
    return arguments


def _set_up(request: Request, launch: Launch) -> Sequence[str]:
    """Run the author's lines on this node; no worker starts after one that fails."""
    name = _NOT_IN_NAMES.sub("-", request.scheduler)
    failed = f'echo "the setup of Slurm scheduler {name} failed ($?): $BASH_COMMAND" >&2'
    return (
        f"set -eE; trap {shlex.quote(failed)} ERR",
        "stroem_setup",
        "trap - ERR; set +eE; unset -f stroem_setup",
        f"cd {shlex.quote(launch.directory)}",
    )


def pass_env_of(scheduler: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables of the allocation that steps see, by name or pattern: by default all where the
    scheduler sets something up."""
    return tuple(scheduler.get("pass_env", ("*",) if scheduler.get("setup") else ()))


def walltime_in(script: str) -> str:
    """The time that a script of ours asks for; empty if it does not say."""
    found = re.search(r"^#SBATCH --time=(\S+)$", script, re.MULTILINE)
    return found[1] if found else ""
