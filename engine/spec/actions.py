"""Reads an action from YAML, driven by the field matrix."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, cast

from engine import durations
from engine.durations import Duration
from engine.errors import AuthorError
from engine.plain import shorten
from engine.scripts import Language, language_of_file, languages_of, read_first_line
from engine.spec.agents import read_limits, read_tools
from engine.spec.entry import Entry, read_inputs, read_outputs, read_retry, read_umask
from engine.spec.fields import ACTION_FIELDS, TYPES, FieldRow, Kind
from engine.spec.model import Action, ActionType, Escalation, Place

LANGUAGES = ("shell", "python", "javascript", "typescript", "go", "js", "ts")
RUNNERS = ("local", "docker", "pod")
_LANGUAGE_ALIASES = {"js": "javascript", "ts": "typescript"}
_RENAMED = {"name": "title"}  # YAML key -> attribute, where they differ
# an engine reads zero as no limit
_CPU = re.compile(r"(?=.{1,30}$)(?=.*[1-9])[0-9]+(\.[0-9]+)?m?")
_MEMORY = re.compile(r"(?=.{1,30}$)(?=.*[1-9])[0-9]+(\.[0-9]+)?([kKMGTP]i?|[mgtp]|[kKmMgGtT][bB])?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?")
_PLATFORM = re.compile(r"[a-z0-9]{1,20}/[a-z0-9_]{1,20}(/[a-z0-9]{1,10})?")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MOUNT = re.compile(r"/[^:{}\x00-\x1f\x7f]{1,250}(:ro)?")
# where no author's volume may be: the platform's own paths and the kernel's
_TAKEN = ("/workspace", "/.stroem", "/etc/stroem", "/var/cache/stroem", "/proc", "/sys", "/dev")
_ISO_RUNTIME = re.compile(r"P(?=.)([0-9]+D)?(T(?=[0-9])([0-9]+H)?([0-9]+M)?([0-9]+S)?)?")
_RESOURCES = ("cpu", "memory", "num_cpus", "num_gpus", "num_nodes", "runtime")


def read_action(
    entry: Entry, place: Place, *, reserved_keys: tuple[str, ...] = ()
) -> Action | None:
    """The action in `entry`, or None when its type is unknown. `reserved_keys` are read
    elsewhere."""
    action_type = cast(ActionType | None, entry.type_of(TYPES, "action-type", place))
    fitting = [
        row.name
        for row in ACTION_FIELDS.values()
        if action_type is None or action_type in row.types
    ]
    entry.refuse_unknown((*ACTION_FIELDS, *reserved_keys), (*fitting, *reserved_keys))
    if action_type is None:
        return None
    values: dict[str, Any] = {}
    for key in entry.pairs:
        row = ACTION_FIELDS.get(key)
        if row is None or key == "type" or entry.get(key) is None:
            continue
        if action_type not in row.types:
            entry.problems.error(
                entry.at(key), "forbidden-field", row.refusal(entry.subject, action_type)
            )
            continue
        value = _read_field(entry, row)
        if value is not None:
            values[_RENAMED.get(key, key)] = value
    if action_type == "script":
        values.setdefault("language", _imply_language(values.get("script"), values.get("source")))
    return Action(type=action_type, place=place, **values)


def _read_field(entry: Entry, row: FieldRow) -> Any:
    """The value of one field, or None when it is absent or wrong."""
    if row.kind == "own":
        return _OWN[row.name](entry)
    if row.kind == "choice":
        return entry.choice(row.name, row.choices, row.choices[0])
    return _READ[row.kind](entry, row.name)


def _read_runner(entry: Entry) -> str | None:
    return entry.word("runner", RUNNERS, "runner")


def _read_language(entry: Entry) -> str | None:
    word = entry.word("language", LANGUAGES, "language")
    return _LANGUAGE_ALIASES.get(word, word) if word else None


def _imply_language(script: str | None, source: str | None) -> Language | None:
    """The language of a script whose author names none: by its first line or its extension. None
    when only the rendered `source` will tell."""
    if source is None:
        is_plain = script is None or not script.startswith("#!")
        known = () if is_plain else languages_of(read_first_line(script or ""))
        return known[0] if known else "shell"
    if source.rstrip().endswith(("}}", "%}")):
        return None
    return language_of_file(source) or "shell"


def _read_script(entry: Entry) -> str | None:
    """The script without what hides its first line, and without carriage returns of Windows."""
    script = entry.text("script")
    if script is None:
        return None
    if script.lstrip("\ufeff \t\r\n").startswith("#!"):
        script = script.lstrip("\ufeff \t\r\n")
    if "\r\n" not in script:
        return script
    message = f"{entry.subject} script has Windows line ends (CR LF); LF is used instead"
    entry.problems.warning(entry.at("script"), "line-ends", message)
    return script.replace("\r\n", "\n")


def _read_manifest(entry: Entry) -> Mapping[str, Any] | None:
    node = entry.get("manifest")
    if node is None or isinstance(node.value, dict):
        return node.plain() if node else None
    message = f"{entry.subject} has 'manifest' field but it is not an object"
    entry.problems.error(entry.at("manifest"), "manifest", message)
    return None


def _read_resources(entry: Entry) -> dict[str, Any]:
    node = entry.mapping("resources")
    if node is None:
        return {}
    inner = Entry(node, f"{entry.subject} resources", entry.problems)
    inner.refuse_unknown(_RESOURCES)
    found: dict[str, Any] = {
        "cpu": _matching(inner, "cpu", _CPU, "a number of CPUs such as 2, 0.5 or 500m"),
        "memory": _matching(inner, "memory", _MEMORY, "an amount such as 512Mi, 4G or 8g"),
        "num_cpus": inner.whole("num_cpus", 1, 100_000),
        "num_gpus": inner.whole("num_gpus", 0, 10_000),
        "num_nodes": inner.whole("num_nodes", 1, 100_000),
        "runtime": _read_runtime(inner),
    }
    return {key: value for key, value in found.items() if value is not None}


def _matching(
    entry: Entry, key: str, pattern: re.Pattern[str], wanted: str, code: str = "resources"
) -> str | None:
    value = entry.loose_text(key)
    if value is not None and not pattern.fullmatch(value):
        entry.complain(key, f"must be {wanted}, not '{shorten(value)}'", code)
        return None
    return value


def _read_shm_size(entry: Entry) -> str | None:
    return _matching(entry, "shm_size", _MEMORY, "an amount such as 512Mi or 2g", "shm_size")


def _read_user(entry: Entry) -> str | None:
    wanted = 'a user and perhaps a group such as "1000:1000" or build'
    return _matching(entry, "user", _USER, wanted, "user")


def _read_platform(entry: Entry) -> str | None:
    wanted = "a platform such as linux/amd64 or linux/arm64"
    return _matching(entry, "platform", _PLATFORM, wanted, "platform")


def _read_volumes(entry: Entry) -> dict[str, str]:
    """Names to absolute paths in the container, each perhaps with `:ro` at its end."""
    node = entry.mapping("volumes")
    if node is None:
        return {}
    inner = Entry(node, f"{entry.subject} volumes", entry.problems)
    found: dict[str, str] = {}
    for name in inner.pairs:
        if not _VOLUME.fullmatch(name):
            wanted = (
                "is not a name that a worker can have given a volume: letters, digits and . _ -"
            )
            inner.complain(name, wanted, "volumes")
        wanted = "an absolute path in the container such as /data or /data:ro"
        path = _matching(inner, name, _MOUNT, wanted, "volumes")
        if path is None:
            continue
        place = path.removesuffix(":ro")
        if _leads_into(place, _TAKEN) or place in {at.removesuffix(":ro") for at in found.values()}:
            inner.complain(name, f"cannot be '{shorten(path)}': that path is taken", "volumes")
        found[name] = path
    return found


def _leads_into(path: str, roots: tuple[str, ...]) -> bool:
    pure = PurePosixPath(path)
    return ".." in pure.parts or str(pure) == "/" or any(pure.is_relative_to(one) for one in roots)


def _read_runtime(entry: Entry) -> str | None:
    """The expected run time, for packing: ISO 8601 (`PT1H`) or our durations; kept as written."""
    value = entry.loose_text("runtime")
    if value is None or (len(value) < 40 and _ISO_RUNTIME.fullmatch(value)):
        return value
    try:
        return durations.parse(value).text
    except AuthorError as wrong:
        entry.complain("runtime", f"is not a duration such as 1h or PT1H: {wrong}", "duration")
        return None


def _read_people(entry: Entry) -> dict[str, tuple[str, ...]]:
    people = {"users": entry.texts("users"), "groups": entry.texts("groups")}
    for key, names in people.items():
        if not all(name.strip() for name in names):
            entry.complain(key, "holds an empty name", "approvers")
    if isinstance(entry.node.value, dict) and not any(people.values()):
        entry.problems.error(
            entry.node.place, "approvers", f"{entry.subject} must name users or groups"
        )
    return people


def _read_approvers(entry: Entry) -> Mapping[str, Any]:
    node = entry.mapping("approvers")
    if node is None:
        return {}
    inner = Entry(node, f"{entry.subject} approvers", entry.problems)
    inner.refuse_unknown(("users", "groups"))
    return {key: list(names) for key, names in _read_people(inner).items()}


def _read_reminders(entry: Entry) -> tuple[Duration, ...]:
    found: list[Duration] = []
    for node in entry.items("reminders"):
        try:
            found.append(
                durations.parse(node.text if isinstance(node.value, float) else node.value)
            )
        except AuthorError as wrong:
            message = f"{entry.subject} 'reminders' contains an invalid duration: {wrong}"
            entry.problems.error(node.place, "duration", message)
    return tuple(found)


def _read_escalation(entry: Entry) -> Escalation | None:
    node = entry.mapping("escalation")
    if node is None:
        return None
    inner = Entry(node, f"{entry.subject} escalation", entry.problems)
    inner.refuse_unknown(("after", "users", "groups"))
    after = inner.duration("after")
    if inner.get("after") is None:
        entry.problems.error(
            entry.at("escalation"), "missing-field", f"{inner.subject} is missing 'after'"
        )
    people = _read_people(inner)
    return Escalation(after, **people) if after else None


_READ: Mapping[Kind, Callable[[Entry, str], Any]] = {
    "text": Entry.text,
    "texts": Entry.texts,
    "text mapping": Entry.text_mapping,
    "flag": Entry.flag,
    "whole": Entry.whole,
    "number": Entry.number,
    "duration": Entry.duration,
}
_OWN: Mapping[str, Callable[[Entry], Any]] = {
    "input": read_inputs,
    "output": read_outputs,
    "script": _read_script,
    "runner": _read_runner,
    "language": _read_language,
    "umask": read_umask,
    "manifest": _read_manifest,
    "resources": _read_resources,
    "shm_size": _read_shm_size,
    "user": _read_user,
    "platform": _read_platform,
    "volumes": _read_volumes,
    "retry": read_retry,
    "tools": read_tools,
    "limits": read_limits,
    "approvers": _read_approvers,
    "reminders": _read_reminders,
    "escalation": _read_escalation,
}
