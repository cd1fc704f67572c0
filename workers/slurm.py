"""Slurm's command line programs: sbatch, squeue, scontrol, scancel."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import AuthorError, PlatformError
from engine.plain import plain
from engine.slurm_answers import Numbered, is_away, is_wrong, read_number

_PATIENCE_S = 60.0
# what squeue and scontrol say about a job that the controller has forgotten
UNKNOWN = "Invalid job id"
ACCOUNTED = "--format=State,NodeList%500,JobName%200"
# What sbatch passes on to the allocation; the worker's own settings must not be included.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "SLURM_CONF")
_LEFT = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)")  # 1-02:03:04, 02:03:04, 3:04
_FIELDS = re.compile(r"(?:^|\s)([A-Za-z][A-Za-z:_/]*)=(\S*)")


_clusters: dict[str, str] = {}  # of jobs that this process submitted to another cluster


class SlurmError(PlatformError):
    """A Slurm program failed; the message is its own. `is_away`: Slurm did not answer, and the same
    call may succeed later. `is_final`: Slurm will never grant the request."""

    def __init__(self, message: str, *, is_away: bool = False, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_away = is_away
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """What Slurm says about a job. An empty state means that Slurm does not know it."""

    state: str
    nodes: str = ""
    reason: str = ""
    name: str = ""


def check_worker_config(path: str) -> None:
    """Raises AuthorError when the configuration of workers on nodes is missing, or readable by
    other users."""
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise AuthorError(
            f"the worker_config {plain(path)} cannot be read here: {error.strerror}"
        ) from None
    if not file.is_file():
        raise AuthorError(f"the worker_config {plain(path)} is not a file")
    if mode & 0o077:
        raise AuthorError(
            f"the worker_config {plain(path)} can be read by other users; set its mode to 0600"
            f" (chmod 600 {path})"
        )


def submit(script: str) -> str:
    """Submit `script`; returns the Slurm job's number. Raises SlurmError with sbatch's message."""
    return submit_job(script).number


def submit_job(script: str) -> Numbered:
    """Submit `script`; returns the Slurm job's number and cluster. Raises SlurmError."""
    done = _run(["sbatch", "--parsable"], script)
    if done.returncode != 0:
        raise _error(done, "Job submission failed")
    found = read_number(done.stdout)
    if found is None:
        said = f"Failed to parse job ID from sbatch output: {done.stdout.strip()[:200]!r}"
        raise SlurmError(said)
    if found.cluster:
        _clusters[found.number] = found.cluster
    return found


def find(name: str, clusters: Sequence[str] = ()) -> Numbered | None:
    """The Slurm job with this name, if any, in one of these clusters. Raises SlurmError."""
    for cluster in clusters or ("",):
        done = _run(
            ["squeue", *_at(cluster), "--noheader", "--states=all", f"--name={name}", "--format=%i"]
        )
        if done.returncode != 0:
            raise _error(done, "squeue failed")
        numbers = [word for word in done.stdout.split() if word.isdigit()]
        if numbers:
            return Numbered(numbers[-1], cluster)
    return None


def look(numbers: Sequence[str], cluster: str = "") -> dict[str, SlurmJob]:
    """The state of these Slurm jobs, by number: one call for all, and one for each that left the
    queue."""
    done = _run(
        [
            "squeue",
            *_at(cluster),
            "--noheader",
            "--states=all",
            "--format=%i|%T|%N|%j|%r",
            f"--jobs={','.join(numbers)}",
        ]
    )
    found: dict[str, SlurmJob] = {}
    if done.returncode != 0 and UNKNOWN not in _said(done):
        raise _error(done, "squeue failed")
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        number, state, nodes, name, reason = (*line.split("|"), "", "", "", "")[:5]
        if number in numbers:  # else a banner
            found[number] = SlurmJob(state, nodes, "" if reason == "None" else reason, name)
    for number in numbers:
        if number not in found:
            seen = _look_closely(number, cluster or _clusters.get(number, ""))
            if seen is not None:
                found[number] = seen
    return found


def _look_closely(number: str, cluster: str) -> SlurmJob | None:
    """A job from the controller or, if it has forgotten it, from accounting; None when the
    controller does not answer."""
    done = _run(["scontrol", *_at(cluster), "--oneliner", "show", "job", number])
    if done.returncode != 0:
        return _look_up(number, cluster) if UNKNOWN in _said(done) else None
    values = dict(_FIELDS.findall(done.stdout))
    reason, name = values.get("Reason", ""), values.get("JobName", "")
    return SlurmJob(
        values.get("JobState", ""),
        values.get("NodeList", ""),
        "" if reason == "None" else reason,
        name,
    )


def _look_up(number: str, cluster: str) -> SlurmJob | None:
    """A job from Slurm's accounting, if any: it remembers longer than the controller. None when it
    does not answer now."""
    try:
        done = _run(
            ["sacct", *_at(cluster), "--noheader", "--allocations", "--parsable2",
             f"--jobs={number}", ACCOUNTED]
        )  # fmt: skip
    except SlurmError as error:
        return None if error.is_away else SlurmJob("")
    if done.returncode != 0:
        return None if is_away(_said(done)) else SlurmJob("")
    state, nodes, name = (*done.stdout.partition("\n")[0].split("|"), "", "", "")[:3]
    return SlurmJob(state, "" if nodes.startswith("None") else nodes, "", name)


def times_of(number: str) -> tuple[float | None, float | None]:
    """How many seconds the Slurm job may still run, and how many in all; None without a limit or an
    answer."""
    done = _run(["squeue", "--noheader", "--format=%L|%l", f"--jobs={number}"])
    left, _, limit = (done.stdout.strip() if done.returncode == 0 else "").partition("|")
    return _seconds(left), _seconds(limit)


def _seconds(text: str) -> float | None:
    found = _LEFT.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def cancel(numbers: Sequence[str], cluster: str = "") -> None:
    """Cancel these Slurm jobs. Raises SlurmError."""
    done = _run(["scancel", *_at(cluster), *numbers])
    if done.returncode != 0:
        raise _error(done, "scancel failed")


def _at(cluster: str) -> Sequence[str]:
    """Options that direct a program to another cluster than its own."""
    return ("-M", cluster) if cluster else ()


def _run(argv: Sequence[str], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            input=stdin if stdin is not None else "",
            env=environment(os.environ),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",  # sites write banners and reasons in any encoding
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(
            f"{argv[0]} was not found on this worker: install Slurm's client programs"
        ) from None
    except subprocess.TimeoutExpired:
        said = f"{argv[0]} did not answer within {_PATIENCE_S:g} s"
        raise SlurmError(said, is_away=True) from None
    except OSError as error:
        raise SlurmError(f"{argv[0]} cannot be started: {error.strerror}") from None


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in _PASSED if name in environ}


def _error(done: subprocess.CompletedProcess[str], what: str) -> SlurmError:
    said = _said(done)
    return SlurmError(f"{what}: {said}", is_away=is_away(said), is_final=is_wrong(said))


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")[:2000]
