"""The libraries of a workspace as the server keeps them: each at its pin, with its files, so that
reading a workspace again asks nobody."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from apps.audit.services import note
from apps.workspaces.errors import SourceError
from apps.workspaces.libraries import attaching
from apps.workspaces.libraries.attaching import Attached
from apps.workspaces.libraries.fetching import check, fetch, folder_of, pin_of
from apps.workspaces.libraries.lock import NAME as LOCK
from apps.workspaces.libraries.lock import Pin
from apps.workspaces.models import Library, Workspace
from apps.workspaces.sealing import seal_bytes, store, unseal_bytes
from apps.workspaces.sources.gitprogram import Credential
from apps.workspaces.sources.tree import Limits, SourceFile, Tree
from engine.errors import Conflict, NotFound
from engine.spec.model import Library as Definition
from engine.spec.model import Problem

FIRST = "first read"


def attach(workspace: Workspace, tree: Tree, limits: Limits) -> Attached:
    """The tree with the files of its libraries. Those that no lock file pins stay at the commit
    that was the newest when they were first read, until somebody refreshes them."""
    shelf = _Shelf(workspace, limits)
    found = attaching.attach(tree, shelf.find, limits)
    if not any(problem.severity == "error" for problem in found.problems):
        Library.objects.filter(workspace=workspace).exclude(name__in=found.pins).delete()
    return Attached(found.tree, found.pins, (*found.problems, *shelf.warnings))


class _Shelf:
    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self._workspace = workspace
        self._limits = limits
        self._rows = {row.name: row for row in Library.objects.filter(workspace=workspace)}
        self.warnings: list[Problem] = []

    def find(self, name: str, library: Definition, pin: Pin | None) -> Tree:
        row = self._rows.get(name)
        fits = row is not None and row.pin.is_for(library) and pin in (None, row.pin)
        if row is not None and fits and not (row.is_due and pin is None):
            if row.is_locked != (pin is not None):
                Library.objects.filter(pk=row.pk).update(is_locked=pin is not None)
            return _stored(row)
        try:
            tree = self._fetch(library, pin)
        except SourceError as error:
            if row is None or not fits:
                raise
            return self._keep(row, library, error)
        self._store(name, library, tree, pin, row)
        return tree

    def _fetch(self, library: Definition, pin: Pin | None) -> Tree:
        is_folder = self._workspace.source == Workspace.Source.FOLDER
        root = Path(self._workspace.location) if is_folder else None
        credential = allowed(library, root)
        return fetch(library, pin, root, self._limits, credential, is_local=True)

    def _keep(self, row: Library, library: Definition, error: SourceError) -> Tree:
        """A refresh that fails changes nothing."""
        tree = _stored(row)
        Library.objects.filter(pk=row.pk).update(is_due=False)
        message = f"Library '{row.name}' stays at {row.label}: {error}"
        self.warnings.append(Problem(library.place, "library", message, "warning"))
        return tree

    def _store(
        self, name: str, library: Definition, tree: Tree, pin: Pin | None, row: Library | None
    ) -> None:
        made = pin_of(library, tree)
        by = LOCK if pin is not None else row.pinned_by if row is not None else FIRST
        values = {
            "address": made.address,
            "ref": made.ref,
            "commit": made.commit,
            "tree": made.tree,
            "is_locked": pin is not None,
            "is_due": False,
            "pinned_at": Now(),
            "pinned_by": by or FIRST,
        }
        with transaction.atomic():
            stored = Library.objects.update_or_create(
                workspace=self._workspace, name=name, defaults=values
            )[0]
            store(stored, seal_bytes(tree.archive()))


def _stored(row: Library) -> Tree:
    """Its files, which are the pinned ones."""
    files: list[SourceFile] = []
    links: dict[str, str] = {}
    archive = io.BytesIO(unseal_bytes(row.sealed))
    with tarfile.open(fileobj=archive, mode="r:gz") as found:  # of our own making
        for entry in found:
            if entry.issym():
                links[entry.name] = entry.linkname
            elif (content := found.extractfile(entry)) is not None:
                files.append(SourceFile(entry.name, content.read(), bool(entry.mode & 0o100)))
    tree = Tree(tuple(files), row.commit, links=links)
    check(tree, row.pin)
    return tree


def allowed(library: Definition, root: Path | None) -> Credential | None:
    """The credential for it, from the operator's `libraries`. Raises SourceError unless an entry
    there has its address or folder, or one that it lies below: files of workspaces must not send
    the server anywhere."""
    folder = folder_of(library, root) if library.path else None
    if folder is not None and root is not None and root.resolve() in folder.parents:
        return None  # a part of the workspace, whose files the server reads anyway
    for source in settings.STROEM.libraries.values():
        if library.url and source.url and _covers(source.url, library.url):
            if source.auth is None:
                return None
            known = settings.STROEM.git_auth[source.auth]
            return Credential(known.username, known.token, known.key, known.key_path)
        if folder is not None and source.path is not None:
            above = source.path.expanduser().resolve()
            if folder == above or above in folder.parents:
                return None
    what = f"url: {library.url}" if folder is None else f"path: {folder}"
    kind = "git" if library.url else "folder"
    raise SourceError(
        f"no entry of `libraries` in the server's settings allows it; an operator can add one with"
        f" `type: {kind}` and `{what}`, or an address above that ends in '/'"
    )


def _covers(allowed: str, url: str) -> bool:
    if url == allowed or not (allowed.endswith("/") and url.startswith(allowed)):
        return url == allowed
    rest = url.removeprefix(allowed)
    return ".." not in unquote(rest) and not any(letter in rest for letter in "\\%@")


def refresh(workspace: Workspace, names: Collection[str], by: str) -> list[str]:
    """Let these libraries, or all, be fetched at their newest with the next read, which the caller
    then asks for. Returns their names. Raises NotFound, Conflict."""
    rows = Library.objects.filter(workspace=workspace)
    known = dict(rows.values_list("name", "is_locked"))
    for name in names:
        if name not in known:
            raise NotFound(f"Workspace '{workspace.name}' has no library '{name[:100]}'")
    chosen = sorted(names or known)
    free = [name for name in chosen if not known[name]]
    if chosen and not free:
        raise Conflict(
            f"{', '.join(chosen)}: pinned by {LOCK} in the files of the workspace; move the pin"
            " there with `lock FOLDER NAME`"
        )
    with transaction.atomic():
        rows.filter(name__in=free).update(is_due=True, pinned_by=by[:254])
        for name in free:
            note("library.refresh", name, by=by, workspace=workspace.name)
    return free
