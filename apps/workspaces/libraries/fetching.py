"""The files of a library, from its repository or folder; checked against its pin."""

from __future__ import annotations

from pathlib import Path

from apps.workspaces.errors import SourceError
from apps.workspaces.libraries.lock import Pin
from apps.workspaces.sources.git import GitSource, read_git
from apps.workspaces.sources.gitprogram import Credential
from apps.workspaces.sources.tree import Limits, Tree, read_folder
from engine.spec.model import Library


def fetch(
    library: Library,
    pin: Pin | None,
    root: Path | None,
    limits: Limits,
    credential: Credential | None = None,
    *,
    is_local: bool = False,
) -> Tree:
    """At its pin, or the newest without one. `root`: the folder of the workspace, which relative
    paths begin at. `is_local` allows repositories on this disk. Raises SourceError."""
    if library.path:
        tree = read_folder(folder_of(library, root), limits)
    else:
        ref = pin.commit if pin is not None else library.ref
        tree = read_git(GitSource(library.url, ref, credential, is_local=is_local), limits)
    if pin is not None:
        check(tree, pin)
    return tree


def folder_of(library: Library, root: Path | None) -> Path:
    try:
        path = Path(library.path).expanduser()
        if not path.is_absolute():
            if root is None:
                raise SourceError("a relative path needs a workspace in a folder; give its `url`")
            path = root / path
        return path.resolve()
    except RuntimeError:
        told = "leads nowhere: a home that nobody has, or a loop"
        raise SourceError(f"'{library.path[:100]}' {told}") from None


def check(tree: Tree, pin: Pin) -> None:
    """Raises SourceError if these are not the pinned files."""
    if tree.label != pin.commit or tree.digest != pin.tree:
        what = f"commit {pin.commit[:12]}" if pin.commit else "its pin"
        raise SourceError(
            f"its files are not those that were pinned: {what} has the hash {pin.tree[:12]}, and"
            f" the files have {tree.digest[:12]}; find out why, and pin it anew on purpose"
        )


def pin_of(library: Library, tree: Tree) -> Pin:
    return Pin(library.address, library.ref, tree.label, tree.digest)
