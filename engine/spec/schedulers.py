"""Reads Slurm schedulers: how nodes are requested, and what steps on them see."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from engine.plain import shorten
from engine.spec.entry import Entry

TEXTS = ("account", "partition", "walltime", "mem", "gres", "qos", "tmp", "extra", "worker_config")
_SCHEDULER_FIELDS = (*TEXTS, "nodes", "ntasks_per_node", "setup", "pass_env")
_LONGEST_SETUP = 20_000
_VARIABLE = re.compile(r"[A-Za-z_*?\[][A-Za-z0-9_*?\[\]!%()-]{0,199}")
_EXPORT = re.compile(r"(?:^|\s)--export[= ]")
_FLAGS = "-[HkOQsv]*"  # short options without a value, which may stand before another one
# One call of sbatch is one allocation, found by its name; the call has to return at once.
_OWN = {
    "array": (
        re.compile(rf"--ar|{_FLAGS}a"),
        "one request is one Slurm job: write 'num_allocations' on the workflow action",
    ),
    "job-name": (re.compile(rf"--job-n|{_FLAGS}J"), "Stroem finds an allocation by its own name"),
    "wait": (
        re.compile(rf"--wait(?![-\w])|{_FLAGS}W"),
        "sbatch would return when the allocation has ended",
    ),
}
TIME = re.compile(rf"--ti|{_FLAGS}t")  # goes before the scheduler's `walltime`
_WALLTIME = re.compile(r"([0-9]{1,4}-[0-9]{1,2}(:[0-9]{1,2}){0,2}|[0-9]{1,6}(:[0-9]{1,2}){0,2})")


def read_schedulers(entry: Entry, key: str = "slurm_schedulers") -> dict[str, Mapping[str, Any]]:
    prefix = f"{entry.subject} Slurm scheduler"
    return {name: read_scheduler(inner) for name, _, inner in entry.entries(key, prefix)}


def read_scheduler(entry: Entry) -> Mapping[str, Any]:
    """One Slurm scheduler, only the given keys; every text is one line, because it goes into a
    script."""
    if not isinstance(entry.node.value, dict):
        return {}
    entry.refuse_unknown(_SCHEDULER_FIELDS)
    if entry.get("account") is None:
        message = f"{entry.subject} is missing 'account' (who pays for the allocation)"
        entry.problems.error(entry.node.place, "missing-field", message)
    found: dict[str, Any] = {key: entry.loose_text(key) for key in TEXTS}
    for key, value in found.items():
        if value is not None and (not value.strip() or not value.isprintable()):
            entry.complain(key, "must be one line of text", "slurm")
    walltime = found["walltime"]
    if walltime is not None and not _WALLTIME.fullmatch(walltime):
        entry.complain(
            "walltime",
            f"must be a time such as 01:30:00 or 2-00:00:00, not '{shorten(walltime)}'",
            "slurm",
        )
    found["nodes"] = entry.whole("nodes", 1, 100_000)
    found["ntasks_per_node"] = entry.whole("ntasks_per_node", 1, 100_000)
    found["setup"] = _read_setup(entry)
    found["pass_env"] = _read_pass_env(entry)
    _check_export(entry, found)
    for word in words_of(found["extra"] or ""):
        for option, (pattern, why) in _OWN.items():
            if pattern.match(word):
                entry.complain("extra", f"must not hold sbatch's '--{option}': {why}", "slurm")
    return {key: value for key, value in found.items() if value is not None}


def words_of(options: str) -> Sequence[str]:
    """The words of a line of sbatch's options."""
    try:
        return shlex.split(options)
    except ValueError:  # sbatch will say what is wrong
        return options.split()


def own_option(name: str) -> str | None:
    """Why a request must not hold this option of sbatch; None if it may."""
    return next((why for pattern, why in _OWN.values() if pattern.match(f"--{name}")), None)


def _read_setup(entry: Entry) -> str | None:
    """Lines of bash: a text, or a list of them."""
    node = entry.get("setup")
    if node is None:
        return None
    is_listed = isinstance(node.value, tuple)
    text = "\n".join(entry.texts("setup")) if is_listed else entry.text("setup") or ""
    if not text.strip():
        entry.complain("setup", "is empty: it holds the lines to run before the worker", "slurm")
    elif len(text) > _LONGEST_SETUP:
        entry.complain("setup", f"is longer than {_LONGEST_SETUP:,} characters", "slurm")
    elif not text.replace("\n", "").replace("\t", "").isprintable():
        entry.complain("setup", "must be lines of text", "slurm")
    return text


def _read_pass_env(entry: Entry) -> list[str] | None:
    """Names or patterns of variables; `all` is `*`."""
    node = entry.get("pass_env")
    if node is None:
        return None
    if isinstance(node.value, tuple):
        found = list(entry.texts("pass_env"))
    else:
        found = [entry.text("pass_env") or ""]
    found = ["*" if name == "all" else name for name in found]
    for name in found:
        if not _VARIABLE.fullmatch(name):
            entry.complain(
                "pass_env",
                f"must be all, or a list of names or patterns of variables such as OMP_*, not"
                f" '{shorten(name)}'",
                "slurm",
            )
        elif name.startswith("STROEM"):
            message = (
                f"{entry.subject}: pass_env '{shorten(name)}' has no effect: Stroem's own settings"
                " never reach steps"
            )
            entry.problems.warning(entry.at("pass_env"), "no-effect", message)
    return found


def _check_export(entry: Entry, found: Mapping[str, Any]) -> None:
    if not _EXPORT.search(found.get("extra") or "") or found["setup"] or found["pass_env"]:
        return
    message = (
        f"{entry.subject}: steps do not see what '--export' sets: name it in 'pass_env', or write"
        " 'pass_env: all'"
    )
    entry.problems.warning(entry.at("extra"), "no-effect", message)
