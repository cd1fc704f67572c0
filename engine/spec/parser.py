"""Files -> workspace: selects the files, reads and merges them, builds the model, checks it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar

from engine.plain import shorten
from engine.spec import (
    checks_actions,
    checks_agents,
    checks_approvals,
    checks_artifacts,
    checks_calls,
    checks_containers,
    checks_exports,
    checks_flow,
    checks_inputs,
    checks_names,
    checks_reads,
    checks_templates,
    checks_triggers,
    checks_workflow_actions,
    libraries,
    reader,
)
from engine.spec.access import read_shared_access
from engine.spec.actions import read_action
from engine.spec.checks_nodes import check_nodes
from engine.spec.connections import (
    read_check,
    read_connection,
    read_connection_type,
    read_mcp_server,
)
from engine.spec.draft import (
    Document,
    Draft,
    Named,
    Node,
    Problems,
    TooManyErrors,
    step_subject,
    task_subject,
)
from engine.spec.entry import Entry
from engine.spec.excerpts import with_excerpts
from engine.spec.exports import read_exported_action, read_job_ends
from engine.spec.fields import EXPORTS, HOOK_LISTS, MAPS, SINGULAR, TOP_FIELDS
from engine.spec.model import Action, Exports, Hook, Hooks, Loaded, Place, Problem, Task, Workspace
from engine.spec.problems import did_you_mean, nearest
from engine.spec.schedulers import read_scheduler
from engine.spec.tags import bind
from engine.spec.tasks import read_hooks, read_task, settle
from engine.spec.torc import document as documents
from engine.spec.triggers import read_trigger
from engine.spec.workspace_settings import read_settings

if TYPE_CHECKING:
    from engine.spec.torc.conversion import Converted

Thing = TypeVar("Thing")
ROOT = ".workflows"
_DEEPEST = 10
_SUFFIXES = (".yaml", ".yml")


def select(paths: Iterable[str]) -> list[str]:
    """The workspace's YAML files among `paths` (relative, with '/'), in reading order.

    Those under `.workflows/` if it exists, else all; at most ten levels below the scanned folder,
    without SOPS's own settings file.
    """
    found = sorted(PurePosixPath(path) for path in paths)
    inside = [path for path in found if len(path.parts) > 1 and path.parts[0] == ROOT]
    start = 1 if inside else 0
    return [
        str(path)
        for path in (inside or found)
        if path.suffix in _SUFFIXES
        and len(path.parts) - start <= _DEEPEST
        and path.name not in (".sops.yaml", ".sops.yml")
    ]


def select_specifications(contents: Mapping[str, bytes]) -> list[str]:
    """The non-YAML files among `contents` that look like Torc specifications, in the folders
    scanned for YAML."""
    is_inside = any(path.startswith(f"{ROOT}/") for path in contents)
    return [
        path
        for path in sorted(contents, key=lambda path: PurePosixPath(path).parts)
        if PurePosixPath(path).suffix.lower() in documents.SUFFIXES
        and documents.is_candidate(path, contents[path])
        and path.startswith(f"{ROOT}/" if is_inside else "")
        and len(PurePosixPath(path).parts) - is_inside <= _DEEPEST
    ]


def infer_folder(file: str) -> str | None:
    """The task folder for tasks in `file`: its directory below `.workflows/`, if any."""
    parts = PurePosixPath(file).parts
    if len(parts) > 2 and parts[0] == ROOT:
        return "/".join(parts[1:-1])
    return None


def library_of(file: str) -> str | None:
    """The library that a file of the workspace's tree belongs to."""
    parts = file.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == libraries.FOLDER else None


def load(
    files: Mapping[str, str | bytes],
    *,
    name: str = "",
    paths: Container[str] | None = None,
    unsafe_templates: Literal["warn", "refuse"] = "warn",
    stored_secrets: Container[str] = (),
) -> Loaded:
    """The workspace in `files` (relative path -> content), and all its problems. Files are our
    YAML, or Torc specifications in any notation.

    `name` is the workspace's own; `paths`, if given, lists every file of the workspace to check
    each `source:`. `unsafe_templates` is the server's setting; a workspace may be stricter, not
    laxer. `stored_secrets` names those that the server keeps beside the files. Renders no template,
    touches no disk, and never raises for an author's mistake.
    """
    problems = Problems()
    merged = _Merged()
    workspace = Workspace()
    try:
        for file in sorted(files, key=lambda path: PurePosixPath(path).parts):
            _add_file(merged, file, files[file], problems)
        draft = _read(merged, problems, name, paths, unsafe_templates == "refuse")
        settled = settle(draft, merged.hooks)
        draft = replace(draft, workspace=settled, _listed=[], stored_secrets=stored_secrets)
        workspace = draft.workspace
        for check in _checks_of(draft):
            problems.extend(check(draft))
    except TooManyErrors:
        pass  # already reported
    complete = None if problems.has_errors else _complete(workspace, merged)
    if complete is not None and _has_schedulers(complete):
        problems.extend(check_nodes(complete))
    found = problems.in_order()
    return Loaded(complete, with_excerpts(found, files) if found else ())


def _checks_of(draft: Draft) -> Iterator[Callable[[Draft], Iterator[Problem]]]:
    """The rules about what every workspace has, and about what else this one has."""
    workspace = draft.workspace
    tasks, actions = workspace.tasks.values(), workspace.actions.values()
    yield from checks_flow.CHECKS
    if not draft.is_ascii:
        yield from checks_names.CHECKS
    if any(action.type == "agent" for action in actions):
        yield from checks_agents.CHECKS
    if any(map(_asks_people, actions)):
        yield from checks_approvals.CHECKS
    yield from checks_actions.CHECKS
    yield from checks_inputs.CHECKS
    if workspace.triggers:
        yield from checks_triggers.CHECKS
    if workspace.exports.actions or workspace.exports.job_ends:
        yield from checks_exports.CHECKS
    if any(task.workflow_actions for task in tasks):
        yield from checks_workflow_actions.CHECKS
    yield from checks_reads.CHECKS
    yield from checks_calls.CHECKS
    if any(step.artifacts for task in tasks for step in task.flow.values()):
        yield from checks_artifacts.CHECKS
    if any(action.type in ("docker", "pod") or action.runner != "local" for action in actions):
        yield from checks_containers.CHECKS
    yield from checks_templates.CHECKS


def _asks_people(action: Action) -> bool:
    return action.type == "approval" or bool(
        action.approvers or action.min_approvals != 1 or action.reminders or action.escalation
    )


def _has_schedulers(workspace: Workspace) -> bool:
    return bool(workspace.slurm_schedulers) or any(
        task.slurm_schedulers for task in workspace.tasks.values()
    )


def _complete(workspace: Workspace, merged: _Merged) -> Workspace:
    """With the tasks from Torc files, and each step bound to the allocations requested for it."""
    tasks = {
        name: bind(task) if task.workflow_actions else task
        for name, task in workspace.tasks.items()
    }
    actions = dict(workspace.actions)
    for converted in merged.torc.values():
        if converted.task is not None:
            tasks[converted.name] = converted.task
            actions.update(converted.actions)
    return replace(workspace, tasks=tasks, actions=actions)


@dataclass(slots=True)
class _Merged:
    """The merged content of all files, not yet read."""

    sections: dict[str, dict[str, Named]] = field(
        default_factory=lambda: {key: {} for key in (*MAPS, *EXPORTS.values())}
    )
    hooks: list[Entry] = field(default_factory=list)
    torc: dict[str, Converted] = field(default_factory=dict)
    is_complete: bool = True
    files: int = 0
    fetched: set[str] = field(default_factory=set)  # libraries


def _add_file(merged: _Merged, file: str, text: str | bytes, problems: Problems) -> None:
    merged.files += 1
    is_ours = PurePosixPath(file).suffix in (".yaml", ".yml")
    document = reader.read(file, text) if is_ours else documents.read(file, text)
    if not is_ours or document.is_torc:
        _add_torc(merged, file, document, problems)
        return
    problems.extend(document.problems)
    if document.problems:
        merged.is_complete = False
    if document.root is None or document.root.value is None:
        return
    if not isinstance(document.root.value, dict):
        merged.is_complete = False
        message = (
            "the file must be a mapping of keys such as actions and tasks, not"
            f" {document.root.kind}"
        )
        problems.error(document.root.place, "bad-type", message)
        return
    top = Entry(document.root, "Top-level key", problems)
    library = library_of(file)
    if library is not None:
        _add_library(merged, library, top, problems)
        return
    if _is_stranger(file, top):
        message = (
            f"ignored: none of its keys is one of {', '.join(TOP_FIELDS)} (put workflows into"
            f" {ROOT}/)"
        )
        problems.warning(document.root.place, "not-a-workflow", message)
        return
    _refuse_unknown(top)
    _add_sections(merged, top, {key: key for key in MAPS})
    exports = top.mapping("exports")
    if exports is not None:
        kinds = Entry(exports, "Top-level key 'exports'", problems)
        kinds.refuse_unknown(tuple(EXPORTS))
        _add_sections(merged, kinds, EXPORTS)
    if any(top.get(event) for event in HOOK_LISTS):
        merged.hooks.append(top)


def _add_library(merged: _Merged, library: str, top: Entry, problems: Problems) -> None:
    merged.fetched.add(library)
    if _is_stranger(top.node.place.file, top):
        return
    _refuse_unknown(top)
    for section, names in libraries.adopt(library, top, problems).items():
        for name, named in names.items():
            _add_named(merged.sections[section], section, name, named, problems)


def _add_torc(merged: _Merged, file: str, document: Document, problems: Problems) -> None:
    from engine.spec.torc.conversion import convert  # few workspaces have such files

    converted = convert(file, document)
    problems.extend(converted.problems)
    known = merged.torc.get(converted.name)
    if known is not None:
        _refuse_twice("tasks", converted.name, converted.place, known.place, problems)
    merged.torc[converted.name] = converted


def _refuse_twice(section: str, name: str, place: Place, first: Place, problems: Problems) -> None:
    message = (
        f"{SINGULAR[section]} '{shorten(name)}' is defined twice: here and at {first}; keep one"
    )
    problems.error(place, "defined-twice", message)


def _is_stranger(file: str, top: Entry) -> bool:
    """Whether a file outside `.workflows/` is unrelated, such as `compose.yaml` in a repository's
    root."""
    if PurePosixPath(file).parts[:1] == (ROOT,):
        return False
    if not top.pairs or not top.pairs.keys().isdisjoint(TOP_FIELDS):
        return False
    return not any(nearest(key, TOP_FIELDS, 0.8) for key in islice(top.pairs, 20))


def _refuse_unknown(top: Entry) -> None:
    for key in top.pairs:
        if key == "sops":
            message = "the file is encrypted with SOPS and was not decrypted; name it *.sops.yaml"
            top.problems.error(top.at(key), "sops", message)
        elif key not in TOP_FIELDS:
            message = f"unknown top-level key '{shorten(key)}'{did_you_mean(key, TOP_FIELDS)}"
            top.problems.error(top.at(key), "unknown-key", message)


def _add_sections(merged: _Merged, owner: Entry, sections: Mapping[str, str]) -> None:
    for key, section in sections.items():
        node = owner.mapping(key)
        if node is not None and isinstance(node.value, dict):
            _add_section(merged.sections[section], section, node, owner.problems)


def _add_section(section: dict[str, Named], key: str, node: Node, problems: Problems) -> None:
    assert isinstance(node.value, dict)
    for name, inner in node.value.items():
        _add_named(section, key, name, Named(node.keys[name], inner), problems)


def _add_named(
    section: dict[str, Named], key: str, name: str, named: Named, problems: Problems
) -> None:
    if name in section:
        _refuse_twice(key, name, named.place, section[name].place, problems)
    else:
        section[name] = named


@dataclass(slots=True)
class _Flows:
    """All tasks, and their inline actions."""

    tasks: dict[str, Task] = field(default_factory=dict)
    actions: dict[str, Action] = field(default_factory=dict)
    inline: dict[str, tuple[str, str]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    broken: dict[str, set[str]] = field(default_factory=dict)


def _read(
    merged: _Merged, problems: Problems, name: str, paths: Container[str] | None, is_strict: bool
) -> Draft:
    flows = _read_tasks(merged.sections["tasks"], problems)
    workspace = _read_workspace(merged, flows, problems, name)
    _announce(merged, problems)
    return Draft(
        workspace,
        merged.sections,
        flows.inline,
        flows.unreadable,
        flows.broken,
        merged.is_complete,
        paths,
        name,
        merged.files,
        is_strict or workspace.settings.get("unsafe_templates") == "refuse",
        merged.fetched,
    )


def _read_workspace(merged: _Merged, flows: _Flows, problems: Problems, own: str) -> Workspace:
    def entries(section: str) -> Iterator[tuple[str, Place, Entry]]:
        """Name, place of the name, entry of everything in a top-level map."""
        for name, named in merged.sections[section].items():
            subject = f"{SINGULAR[section]} '{shorten(name)}'"
            yield name, named.place, Entry(named.node, subject, problems)

    actions = {name: read_action(entry, place) for name, place, entry in entries("actions")}
    triggers = {name: read_trigger(entry, place) for name, place, entry in entries("triggers")}
    types, checks = {}, {}
    for name, _, entry in entries("connection_types"):
        types[name], checks[name] = read_connection_type(entry), read_check(entry)
    connections = {name: read_connection(entry, types) for name, _, entry in entries("connections")}
    servers = {name: read_mcp_server(entry, place) for name, place, entry in entries("mcp_servers")}
    settings = merged.sections["settings"]
    return Workspace(
        actions={**_known(actions), **flows.actions},
        tasks=flows.tasks,
        triggers=_known(triggers),
        hooks=_read_hooks(merged.hooks),
        secrets={name: named.node.plain() for name, named in merged.sections["secrets"].items()},
        connection_types=types,
        connection_checks=_known(checks),
        connections=connections,
        mcp_servers=servers,
        slurm_schedulers={
            name: read_scheduler(entry) for name, _, entry in entries("slurm_schedulers")
        },
        **(read_settings(settings, problems) if settings else {}),
        exports=Exports(
            {name: read_job_ends(entry, place) for name, place, entry in entries("job_ends")},
            {
                name: read_exported_action(entry, place)
                for name, place, entry in entries("exported_actions")
            },
        ),
        libraries={
            name: libraries.read_named(name, entry, place, own=own, fetched=merged.fetched)
            for name, place, entry in entries("libraries")
        },
        access={name: read_shared_access(name, entry) for name, _, entry in entries("access")},
    )


def _known(things: Mapping[str, Thing | None]) -> dict[str, Thing]:
    """Without unreadable ones."""
    return {name: thing for name, thing in things.items() if thing is not None}


def _announce(merged: _Merged, problems: Problems) -> None:
    """Register the tasks from Torc files for triggers, hooks and actions."""
    for name, converted in merged.torc.items():
        known = merged.sections["tasks"].setdefault(
            name, Named(converted.place, Node({}, converted.place))
        )
        if known.place != converted.place:
            _refuse_twice("tasks", name, converted.place, known.place, problems)


def _read_tasks(section: Mapping[str, Named], problems: Problems) -> _Flows:
    flows = _Flows()
    for name, named in section.items():
        entry = Entry(named.node, task_subject(name), problems)
        reading = read_task(name, entry, named.place, infer_folder(named.place.file))
        if isinstance(named.node.value, dict):
            flows.tasks[name] = reading.task
        flows.broken[name] = reading.broken_steps
        flows.unreadable |= reading.unreadable
        for step_name, step in reading.task.flow.items():
            if step.action in flows.inline:
                message = (
                    f"{step_subject(name, step_name)}: its inline action has the same name as"
                    " another; rename it"
                )
                problems.error(step.place, "name-collision", message)
            elif step.action in reading.inline:
                flows.inline[step.action] = (name, step_name)
        flows.actions.update(reading.inline)
    return flows


def _read_hooks(tops: list[Entry]) -> Hooks:
    """The workspace's hooks: the concatenated lists of all files."""
    lists: dict[str, tuple[Hook, ...]] = dict.fromkeys(HOOK_LISTS, ())
    for top in tops:
        hooks = read_hooks(top, "Workspace")
        for event in HOOK_LISTS:
            lists[event] += getattr(hooks, event)
    return Hooks(**lists)
