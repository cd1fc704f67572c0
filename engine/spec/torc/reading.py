"""A tree -> a specification: every key is typed, unknown ones are refused with their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from engine.errors import AuthorError
from engine.plain import shorten
from engine.resources import read_memory, read_runtime
from engine.spec.draft import Node, Problems
from engine.spec.entry import Entry
from engine.spec.model import Place, WorkflowAction
from engine.spec.schedulers import own_option, read_scheduler
from engine.spec.slurm import read_workflow_actions
from engine.spec.torc.model import (
    Axes,
    File,
    Handler,
    Job,
    Requirements,
    Rule,
    Specification,
    UserData,
)

_OPTIONS = (
    "compute_node_expiration_buffer_seconds", "compute_node_wait_for_new_jobs_seconds",
    "compute_node_wait_for_healthy_database_minutes",
)  # fmt: skip
_TOP = (
    "name", "user", "description", "parameters", "jobs", "files", "user_data",
    "resource_requirements",
    "failure_handlers", "slurm_schedulers", "slurm_defaults", "resource_monitor", "actions",
    "use_pending_failed",
    "compute_node_ignore_workflow_completion", "jobs_sort_method", *_OPTIONS,
)  # fmt: skip
_NAMES = (
    "depends_on", "depends_on_regexes", "input_files", "input_file_regexes", "output_files",
    "output_file_regexes",
    "input_user_data", "input_user_data_regexes", "output_user_data", "output_user_data_regexes",
)  # fmt: skip
_AXES = ("parameters", "parameter_mode", "use_parameters")
_JOB = (
    "name", "command", "invocation_script", "cancel_on_blocking_job_failure",
    "supports_termination",
    "resource_requirements", "failure_handler", "scheduler", *_NAMES, *_AXES,
)  # fmt: skip
_SORT_METHODS = ("gpus_runtime_memory", "gpus_memory_runtime", "none")
_EXCLUDED_DEFAULTS = frozenset(
    {"partition", "nodes", "walltime", "time", "mem", "gres", "name", "job-name"}
)
_MOST = 100_000

Thing = TypeVar("Thing")


def read_specification(root: Node, file: str, problems: Problems) -> Specification | None:
    """The specification in the tree of `file`; None when it has no name."""
    top = Entry(root, "Specification", problems)
    top.refuse_unknown(_TOP)
    name = _name(top, root.place)
    if name is None:
        return None
    if top.get("jobs") is not None and not top.items("jobs"):
        top.complain("jobs", "is empty: a specification needs a job", "jobs")
    return Specification(
        name=name,
        place=top.at("name"),
        jobs=tuple(_listed(top, "jobs", "Job", _read_job)),
        description=top.text("description"),
        parameters=_parameters(top),
        files=tuple(_listed(top, "files", "File", _read_file)),
        user_data=tuple(_listed(top, "user_data", "User data", _read_user_data)),
        requirements=_by_name(
            top, "resource_requirements", "Resource requirements", _read_requirements
        ),
        handlers=_by_name(top, "failure_handlers", "Failure handler", _read_handler),
        schedulers=_read_schedulers(top),
        actions=tuple(_read_actions(top)),
        options=_read_options(top),
    )


def _name(entry: Entry, place: Place) -> str | None:
    entry.require("name", place)
    name = entry.text("name")
    if name is not None and (not name.strip() or not name.isprintable() or len(name) > 300):
        entry.complain("name", "must be one line of at most 300 characters", "name")
        return None
    return name


def _listed(
    top: Entry,
    key: str,
    subject: str,
    read: Callable[[str, Entry], Thing | None],
    seen: dict[str, Place] | None = None,
) -> list[Thing]:
    """The entries of the list `key`, each called `subject 'name'` in messages."""
    found: list[Thing] = []
    for index, node in enumerate(top.items(key)):
        entry = Entry(node, f"{key}[{index}]", top.problems)
        if not isinstance(node.value, dict):
            continue
        name = _name(entry, node.place)
        if name is None:
            continue
        entry.subject = f"{subject} '{shorten(name)}'"
        if seen is not None and name in seen:
            word = {
                "Resource requirements": "resource_requirements",
                "Slurm scheduler": "slurm_scheduler",
            }
            message = (
                f"Duplicate {word.get(subject, subject.lower().replace(' ', '_'))} name:"
                f" '{shorten(name)}'"
            )
            top.problems.error(
                entry.at("name"), "defined-twice", f"{message} (first at {seen[name]})"
            )
            continue
        if seen is not None:
            seen[name] = entry.at("name")
        thing = read(name, entry)
        if thing is not None:
            found.append(thing)
    return found


def _by_name(
    top: Entry, key: str, subject: str, read: Callable[[str, Entry], Any]
) -> dict[str, Any]:
    return {thing.name: thing for thing in _listed(top, key, subject, read, {})}


def _read_job(name: str, entry: Entry) -> Job | None:
    entry.refuse_unknown(_JOB)
    if not entry.flag("supports_termination", True):
        _warn_of_no_effect(entry, "supports_termination", "every step receives TERM before KILL")
    command = entry.text("command")
    entry.require("command", entry.node.place)
    if command is None:
        return None
    return Job(
        name=name,
        command=command,
        place=entry.at("name"),
        invocation_script=entry.text("invocation_script"),
        cancel_on_blocking_job_failure=entry.flag("cancel_on_blocking_job_failure", True),
        resource_requirements=entry.text("resource_requirements"),
        failure_handler=entry.text("failure_handler"),
        scheduler=entry.text("scheduler"),
        **{key: entry.texts(key) for key in _NAMES},
        axes=_read_axes(entry),
        at=entry.node.keys,
    )


def _parameters(entry: Entry) -> dict[str, str]:
    """Parameter -> the text of its values. A list of values is accepted like the text `[a,b]`."""
    node = entry.mapping("parameters")
    if node is None or not isinstance(node.value, dict):
        return {}
    found: dict[str, str] = {}
    for name, value in node.value.items():
        if isinstance(value.value, tuple):
            items = [item.text for item in value.value]
            found[name] = (
                "[" + ",".join(f'"{item}"' if "," in item else item for item in items) + "]"
            )
        elif isinstance(value.value, str | int | float):
            found[name] = value.text
        else:
            message = (
                f"{entry.subject} parameter '{shorten(name)}' must be text such as 1:10 or [a,b]"
            )
            entry.problems.error(node.keys[name], "parameters", message)
    return found


def _read_axes(entry: Entry) -> Axes:
    mode = entry.text("parameter_mode") or "product"
    if mode not in ("product", "zip"):
        message = (
            f"{entry.subject} has parameter_mode '{shorten(mode)}'; only 'zip' is known, so"
            " 'product' is used"
        )
        entry.problems.warning(entry.at("parameter_mode"), "parameter-mode", message)
    return Axes(
        _parameters(entry), "zip" if mode == "zip" else "product", entry.texts("use_parameters")
    )


def _read_file(name: str, entry: Entry) -> File | None:
    entry.refuse_unknown(("name", "path", *_AXES))
    entry.require("path", entry.node.place)
    path = entry.text("path")
    return None if path is None else File(name, path, entry.at("name"), _read_axes(entry))


def _read_user_data(name: str, entry: Entry) -> UserData:
    entry.refuse_unknown(("name", "data", "is_ephemeral"))
    if entry.flag("is_ephemeral"):
        _warn_of_no_effect(entry, "is_ephemeral", "user data is kept as long as its job")
    node = entry.get("data")
    return UserData(name, entry.at("name"), node.plain() if node else None, node is not None)


def _read_requirements(name: str, entry: Entry) -> Requirements:
    entry.refuse_unknown(("name", "num_cpus", "num_gpus", "num_nodes", "memory", "runtime"))
    entry.require("num_cpus", entry.node.place)
    entry.require("memory", entry.node.place)
    memory, runtime = entry.loose_text("memory"), entry.text("runtime") or "PT1H"
    size = 1024**2
    try:
        size = read_memory((memory or "1m").lower().removesuffix("b"))
    except AuthorError as wrong:
        entry.complain("memory", f"is not an amount of memory: {wrong}", "resources")
    try:
        read_runtime(runtime)
    except AuthorError as wrong:
        entry.complain("runtime", f"is not a duration: {wrong}", "duration")
    return Requirements(
        name,
        entry.at("name"),
        entry.whole("num_cpus", 1, 100_000) or 1,
        entry.whole("num_gpus", 0, 10_000) or 0,
        entry.whole("num_nodes", 1, 100_000) or 1,
        size,
        runtime,
    )


def _read_handler(name: str, entry: Entry) -> Handler:
    entry.refuse_unknown(("name", "rules"))
    if not entry.items("rules"):
        entry.problems.error(
            entry.node.place,
            "missing-field",
            f"{entry.subject} is missing 'rules': it needs a rule",
        )
    rules = []
    for index, node in enumerate(entry.items("rules")):
        inner = Entry(node, f"{entry.subject} rules[{index}]", entry.problems)
        inner.refuse_unknown(
            ("exit_codes", "match_all_exit_codes", "recovery_script", "max_retries")
        )
        rules.append(_read_rule(inner))
    return Handler(name, entry.at("name"), tuple(rules))


def _read_rule(entry: Entry) -> Rule:
    codes: list[int] = []
    for node in entry.items("exit_codes"):
        if (
            isinstance(node.value, int)
            and not isinstance(node.value, bool)
            and -255 <= node.value <= 255
        ):
            codes.append(node.value)
        else:
            message = (
                f"{entry.subject} 'exit_codes' must hold whole numbers, not"
                f" '{shorten(node.text, 20)}'"
            )
            entry.problems.error(node.place, "bad-type", message)
    matches_all = entry.flag("match_all_exit_codes")
    if not codes and not matches_all and isinstance(entry.node.value, dict):
        message = (
            f"{entry.subject} matches nothing: give 'exit_codes', or 'match_all_exit_codes: true'"
        )
        entry.problems.error(entry.node.place, "failure-handler", message)
    retries = entry.whole("max_retries", 0, 1000)
    return Rule(
        tuple(codes), matches_all, entry.text("recovery_script"), 3 if retries is None else retries
    )


def _read_schedulers(top: Entry) -> dict[str, Any]:
    defaults = _slurm_defaults(top)
    found: dict[str, Any] = {}

    def read(name: str, entry: Entry) -> None:
        if "+" in name or len(name) > 80:
            entry.complain(
                "name",
                "must not contain a plus sign or more than 80 characters: it becomes a tag",
                "name",
            )
        pairs = {key: node for key, node in entry.pairs.items() if key != "name"}
        bare = Entry(
            Node(pairs, entry.node.place, "", entry.node.keys), entry.subject, entry.problems
        )
        values = read_scheduler(bare)
        found[name] = {
            "nodes": 1,
            "walltime": "01:00:00",
            **({"defaults": defaults} if defaults else {}),
            **values,
        }

    _listed(top, "slurm_schedulers", "Slurm scheduler", read, {})
    return found


def _slurm_defaults(top: Entry) -> dict[str, Any]:
    """Long options of sbatch, the defaults of every scheduler."""
    node = top.mapping("slurm_defaults")
    if node is None or not isinstance(node.value, dict):
        return {}
    excluded = sorted(
        name for name in node.value if name.lower().replace("_", "-") in _EXCLUDED_DEFAULTS
    )
    if excluded:
        message = (
            f"slurm_defaults contains excluded parameters managed by torc: {', '.join(excluded)}. "
            "These cannot be set as defaults."
        )
        top.problems.error(node.keys[excluded[0]], "slurm-defaults", message)
    found: dict[str, Any] = {}
    for name, value in node.value.items():
        option = name.replace("_", "-")
        is_scalar = isinstance(value.value, str | int | float) and value.text.isprintable()
        if not is_scalar or not option.replace("-", "").isalnum():
            message = (
                f"slurm_defaults '{shorten(name)}' is left out: it must be an option of sbatch with"
                " one value"
            )
            top.problems.warning(node.keys[name], "slurm-defaults", message)
        elif name not in excluded and (why := own_option(option)):
            message = f"slurm_defaults '{shorten(name)}' is not possible: {why}"
            top.problems.error(node.keys[name], "slurm-defaults", message)
        elif name not in excluded:
            found[option] = value.value if isinstance(value.value, bool) else value.text
    return found


def _read_actions(top: Entry) -> list[WorkflowAction]:
    """Torc searches within names where we match whole names, and fires all actions again on each
    restart."""
    by_place = {node.place: node for node in top.items("actions")}
    found = []
    for action in read_workflow_actions(top, "actions"):
        node = by_place[action.place]
        says_rerun = isinstance(node.value, dict) and "rerun" in node.value
        found.append(
            replace(action, match="search", rerun=action.rerun if says_rerun else "always")
        )
    return found


# What Torc's own runners do with these keys is done otherwise here, or not at all.
_NO_EFFECT = {
    "user": "a job belongs to whoever starts it",
    "jobs_sort_method": "steps are taken by priority and age, and packed as they fit",
    "compute_node_expiration_buffer_seconds": "workers leave before their allocation ends anyway",
    "compute_node_wait_for_new_jobs_seconds": "a worker leaves when no step is left for it",
    "compute_node_wait_for_healthy_database_minutes": "workers wait as long as their steps' leases",
    "compute_node_ignore_workflow_completion": "workers leave when the job has ended",
    "use_pending_failed": "a step that failed for good is failed; restart it by hand",
}


def _warn_of_no_effect(entry: Entry, key: str, why: str) -> None:
    message = f"{key} has no effect here: {why}"
    entry.problems.warning(entry.at(key), "no-effect", message)


def _read_options(top: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {key: top.whole(key, 0, 10_000_000) for key in _OPTIONS}
    found["compute_node_ignore_workflow_completion"] = (
        top.flag("compute_node_ignore_workflow_completion") or None
    )
    found["jobs_sort_method"] = top.choice("jobs_sort_method", _SORT_METHODS, "gpus_runtime_memory")
    top.flag("use_pending_failed")
    for key, why in _NO_EFFECT.items():
        node = top.get(key)
        if node is not None and node.value is not False:
            _warn_of_no_effect(top, key, why)
    monitor = top.mapping("resource_monitor")
    if (
        monitor is not None
        and isinstance(monitor.value, dict)
        and Entry(monitor, "resource_monitor", top.problems).flag("enabled", True)
    ):
        _warn_of_no_effect(top, "resource_monitor", "Stroem does not measure what steps use")
    return {key: value for key, value in found.items() if value is not None}
