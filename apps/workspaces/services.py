"""Importing and refreshing workspaces. Each service opens its own transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from apps.audit.services import SERVER, added, changes_of, current, note
from apps.workspaces import connections, exports, ports, revisions, secrets
from apps.workspaces.approvers import unknown_approvers
from apps.workspaces.errors import LIMIT, LimitError, SourceError
from apps.workspaces.models import (
    WHOLE,
    Blob,
    Connection,
    Library,
    Revision,
    Secret,
    TaskList,
    Workspace,
)
from apps.workspaces.problems import plain
from apps.workspaces.revisions import strip
from apps.workspaces.sealing import seal, seal_bytes, store
from apps.workspaces.sources.git import GitSource, check_ref, check_url, newest_commit, read_git
from apps.workspaces.sources.gitprogram import Credential
from apps.workspaces.sources.single import read_file
from apps.workspaces.sources.tree import Limits, Tree, read_folder
from engine.errors import InputError
from engine.rights import matches, path_of
from engine.spec import freeze
from engine.spec.exports import ELSEWHERE
from engine.spec.model import Kept, Place, Problem
from engine.spec.model import Workspace as Definition

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")
Read = Callable[[Workspace], Workspace]


def import_folder(
    name: str,
    path: str | Path,
    *,
    directory: str = "",
    keeps: bool = False,
    read: Read | None = None,
) -> Workspace:
    """Create the workspace `name` or move it to the folder `path`, and read it. `problems` lists
    what is wrong; a new workspace that cannot be read is not kept, unless `keeps`: then it is read
    again and again.

    `path` may also be a single Torc file; `directory` is where the steps of such files run, instead
    of the folder of the file. `read` is how it is read: without it, in this process. Raises
    SourceError if the folder cannot be read.
    """
    folder = Path(path).expanduser().resolve()
    if not folder.exists():  # a mistyped path must not create a workspace
        raise SourceError(f"there is no folder {folder}")
    values = _values(name, Workspace.Source.FOLDER, str(folder), directory=directory)
    return _first_read(name, values, read or refresh, keeps=keeps)


def import_git(
    name: str,
    url: str,
    ref: str = "",
    credential: str = "",
    *,
    is_local: bool = False,
    keeps: bool = False,
    read: Read | None = None,
) -> Workspace:
    """Create the workspace `name` or move it to this repository, and read it, as `import_folder`.

    `is_local` allows repositories on the local disk; only commands of operators set it.
    """
    values = _git_values(name, url, ref, credential, is_local=is_local)
    return _first_read(name, values, read or refresh, keeps=keeps)


def declare(
    name: str,
    *,
    path: Path | None = None,
    url: str = "",
    ref: str = "",
    credential: str = "",
    poll_interval_s: int,
) -> None:
    """Note where a workspace of the settings lies; it is due at once, unless it is in quarantine
    and lies where it did."""
    if path is None:
        values = _git_values(name, url, ref, credential, is_local=False)
    else:
        values = _values(name, Workspace.Source.FOLDER, str(path.expanduser().resolve()))
    values |= {"poll_interval_s": poll_interval_s}
    if Workspace.objects.filter(name=name, **values).update(checked_at=None):
        return
    released = {"checked_at": None, "not_before": None, "stops": 0, "quarantined_at": None}
    Workspace.objects.update_or_create(name=name, defaults=values | released)


def _git_values(
    name: str, url: str, ref: str, credential: str, *, is_local: bool
) -> dict[str, Any]:
    check_url(url, is_local=is_local)
    if ref:
        check_ref(ref)
    if credential and credential not in settings.STROEM.git_auth:
        raise SourceError(f"`git_auth` has no entry '{credential}'")
    return _values(name, Workspace.Source.GIT, url, ref=ref, credential=credential)


def _values(
    name: str,
    source: str,
    location: str,
    *,
    ref: str = "",
    credential: str = "",
    directory: str = "",
) -> dict[str, Any]:
    if not _NAME.fullmatch(name):
        rule = "letters, digits, '-' and '_', at most 100 of them, and may not begin with '-'"
        raise InputError({"name": f"a workspace name may contain only {rule}"})
    if directory and not Path(directory).is_absolute():
        raise InputError(
            {"directory": "the directory for the steps of Torc files must be an absolute path"}
        )
    return {
        "source": source, "location": location, "ref": ref,
        "credential": credential, "directory": directory,
    }  # fmt: skip


def _first_read(name: str, values: dict[str, Any], read: Read, *, keeps: bool) -> Workspace:
    with transaction.atomic():
        before = Workspace.objects.filter(name=name).values(*values).first() or {}
        row, is_new = Workspace.objects.update_or_create(name=name, defaults=values)
        changes = changes_of(before, values) if before else added(**values)
        if changes or current().via != SERVER.via:  # `up` imports the same at each start
            note("workspace.import", name, workspace=name, changes=changes)
    found = None
    try:
        found = read(row)
    finally:
        if is_new and not keeps and (found is None or found.current_id is None):
            Workspace.objects.filter(pk=row.pk, current=None).delete()
    return found


def refresh(workspace: Workspace) -> Workspace:
    """Read the source again. A new state without errors becomes the current revision. If it has
    errors, `problems` lists them and the last good revision stays current."""
    # most commands read no files
    from apps.workspaces.libraries import pins
    from apps.workspaces.libraries.attaching import Attached, pinned
    from apps.workspaces.reading import load, rules_here

    try:
        read = _read(workspace)
        needs = _may_name_libraries(workspace, read)
        attached = pins.attach(workspace, read, _limits()) if needs else Attached(read)
    except SourceError as error:
        return _note(workspace, [_source_problem(workspace, error)], None)
    tree = attached.tree
    if any(problem.severity == "error" for problem in attached.problems):
        return _note(workspace, [*tree.warnings, *attached.problems], None)
    loaded = load(tree, workspace.name, _stored_secrets(workspace), rules_here())
    found = [one for one in loaded.problems if one.code != ELSEWHERE]
    problems = [*tree.warnings, *attached.problems, *found]
    if loaded.workspace is None:
        return _note(workspace, problems, None)
    problems += _doubts(workspace, loaded.workspace)
    definition = pinned(loaded.workspace, attached) if needs else loaded.workspace
    return _note(workspace, problems, _freeze(workspace, tree, _settled(workspace, definition)))


def _doubts(workspace: Workspace, definition: Definition) -> list[Problem]:
    """Warnings about what the files say, where only an installation can know that it fails."""
    problems: list[Problem] = []
    if definition.secrets or definition.connections:
        problems += secrets.unresolved(definition, workspace)
    if Connection.objects.filter(workspace=workspace).exists():
        problems += connections.unfit(workspace, definition)
    if definition.secrets:
        problems += secrets.written_out(definition)
    problems += _tools_for_nobody(definition)
    if any(action.approvers or action.escalation for action in definition.actions.values()):
        problems += unknown_approvers(definition)
    steps = (step for task in definition.tasks.values() for step in task.flow.values())
    if any("." in step.action for step in steps):  # so all actions of others are named
        problems += exports.doubts(workspace, definition)
    problems += ports.doubts(workspace, definition)
    return problems


def _may_name_libraries(workspace: Workspace, tree: Tree) -> bool:
    """Or holds files where those of libraries belong, or has named some before."""
    names = (*tree.links, *(file.path for file in tree.files))
    is_named = any(b"libraries" in file.content for file in tree.files)
    return (
        is_named
        or any("libraries" in name for name in names)
        or Library.objects.filter(workspace=workspace).exists()
    )


def _settled(workspace: Workspace, definition: Definition) -> Definition:
    """The definition with the directory of each Torc task: the given one, else the folder of its
    file. Tasks of repositories have none: their steps run in their working tree."""
    tasks = dict(definition.tasks)
    for name, task in definition.tasks.items():
        if task.source_format == "torc":
            folder = workspace.directory or _folder_of(workspace, str(task.torc.get("file", "")))
            tasks[name] = replace(task, torc={**task.torc, "directory": folder})
    return replace(definition, tasks=tasks)


def _folder_of(workspace: Workspace, file: str) -> str | None:
    if workspace.source != Workspace.Source.FOLDER:
        return None
    root = Path(workspace.location)
    return str(root.parent if root.is_file() else (root / file).parent)


def refresh_if_changed(workspace: Workspace) -> Workspace:
    """As `refresh`, but a git source that is still at the current commit is not fetched."""
    try:
        is_known = _is_known_commit(workspace)
    except LimitError as error:
        return _note(workspace, [_source_problem(workspace, error)], None)
    if not is_known:
        return refresh(workspace)
    Workspace.objects.filter(pk=workspace.pk).update(checked_at=Now())
    return workspace


def _is_known_commit(workspace: Workspace) -> bool:
    """Whether a git source is still at the current commit, so that nothing needs fetching."""
    if workspace.source != Workspace.Source.GIT or workspace.current is None or workspace.problems:
        return False
    try:
        newest = newest_commit(_git_source(workspace), _limits())
        return newest == workspace.current.label
    except LimitError:
        raise
    except SourceError:  # reading it reports the problem
        return False


def _stored_secrets(workspace: Workspace) -> frozenset[str]:
    return frozenset(Secret.objects.filter(workspace=workspace).values_list("name", flat=True))


def _read(workspace: Workspace) -> Tree:
    if workspace.source == Workspace.Source.FOLDER:
        path = Path(workspace.location)
        return read_file(path, _limits()) if path.is_file() else read_folder(path, _limits())
    return read_git(_git_source(workspace), _limits())


def _limits() -> Limits:
    """Git gets half of the time: what it fetched must be read as well."""
    given = settings.STROEM.refresh
    return Limits(given.files, given.workspace_mb * 1_000_000, seconds=given.timeout_s / 2)


def _git_source(workspace: Workspace) -> GitSource:
    # Only commands of operators store a local repository in a row.
    return GitSource(
        workspace.location, workspace.ref, _credential(workspace.credential), is_local=True
    )


def _credential(name: str) -> Credential | None:
    if not name:
        return None
    known = settings.STROEM.git_auth.get(name)
    if known is None:
        raise SourceError(f"`git_auth` no longer has an entry '{name}'")
    return Credential(known.username, known.token, known.key, known.key_path)


def _tools_for_nobody(definition: Definition) -> list[Problem]:
    """Warnings about tasks offered to agents by a server that lets no agent in."""
    if settings.STROEM.mcp.enabled:
        return []
    words = "'mcp: true' has no effect: the server's settings do not enable `mcp`"
    return [
        Problem(task.place, "no-effect", f"Task '{name}' {words}", "warning")
        for name, task in definition.tasks.items()
        if task.mcp
    ]


def _source_problem(workspace: Workspace, error: SourceError) -> Problem:
    code = LIMIT if isinstance(error, LimitError) else "source"
    return Problem(Place(workspace.location), code, str(error))


def _freeze(workspace: Workspace, tree: Tree, definition: Definition) -> Revision:
    """The revision of this state, created if it does not exist."""
    bare, private = strip(definition)
    frozen = freeze.to_json(bare)
    digest = tree.digest
    known = Revision.objects.filter(workspace=workspace, digest=digest).first()
    if known is not None:
        # the same files, parsed by a newer version of Stroem
        if known.definition != frozen or known.label != tree.label:
            known.definition, known.sealed_secrets, known.label = frozen, seal(private), tree.label
            known.save(update_fields=["definition", "sealed_secrets", "label"])
            revisions.forget(known.pk)
        return known
    with transaction.atomic():
        blob = _store_archive(tree)
        values = {
            "label": tree.label,
            "archive": blob,
            "definition": frozen,
            "sealed_secrets": seal(private),
        }
        return Revision.objects.get_or_create(workspace=workspace, digest=digest, defaults=values)[
            0
        ]


def _store_archive(tree: Tree) -> Blob:
    archive = tree.archive()
    digest = hashlib.sha256(archive).hexdigest()
    if not Blob.objects.filter(pk=digest).exists():
        fresh = Blob(digest=digest, size_bytes=len(archive), sealed=b"")
        Blob.objects.bulk_create([fresh], ignore_conflicts=True)
        sealed = seal_bytes(archive)
        del archive  # a reader's memory is limited
        store(fresh, sealed)
    return Blob.objects.only("pk").get(pk=digest)


def _note(
    workspace: Workspace, problems: Sequence[Problem], revision: Revision | None
) -> Workspace:
    values: dict[str, Any] = {
        "problems": [plain(problem) for problem in problems],
        "checked_at": Now(),
    }
    if revision is not None:
        values["current"] = revision
    with transaction.atomic():
        Workspace.objects.filter(pk=workspace.pk).update(**values)
        if revision is not None:
            definition = revisions.definition_of(revision.pk)
            _list_tasks(workspace, definition)
            ports.came_into_force(workspace, definition)
    return Workspace.objects.select_related("current").get(pk=workspace.pk)


def _list_tasks(workspace: Workspace, definition: Definition) -> None:
    """Note which tasks there are, in which folder, and whom the files keep rights to; with the
    workspace's row locked."""
    known = TaskList.objects.filter(pk=workspace.pk).first()
    tasks = dict(known.tasks) if known else {}
    tasks[WHOLE] = [None, _kept_to(definition, {}, WHOLE, None)]
    for name, task in definition.tasks.items():
        tasks[name] = [task.folder, _kept_to(definition, task.access, name, task.folder)]
    is_kept = any(access for _, access in tasks.values())
    if known is None or (known.tasks, known.is_kept) != (tasks, is_kept):
        values = {"tasks": tasks, "is_kept": is_kept}
        TaskList.objects.update_or_create(pk=workspace.pk, defaults=values)


def _kept_to(
    definition: Definition, own: Mapping[str, Kept], task: str, folder: str | None
) -> dict[str, list[dict[str, list[str]]]]:
    """By right: everybody whom one rule keeps it to, for each rule."""
    found: dict[str, list[dict[str, list[str]]]] = {}
    shared = [
        rules
        for pattern, rules in definition.access.items()
        if (not pattern.strip("*") if task == WHOLE else matches(pattern, path_of(task, folder)))
    ]
    for rules in (own, *shared):
        for right, kept in rules.items():
            said = {"users": [email.lower() for email in kept.users], "groups": list(kept.groups)}
            found.setdefault(right, []).append(said)
    return found


def announce(workspace_id: int, events: Iterable[str]) -> None:
    """Note which events somebody outside wants to be told of."""
    Workspace.objects.filter(pk=workspace_id).update(announced=" ".join(sorted(events)))
