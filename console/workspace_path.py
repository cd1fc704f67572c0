"""The workspace argument of `run`, `validate` and `import_workspace`: a folder or a Torc file."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import AuthorError
from engine.plain import plain
from engine.spec.model import Loaded, Task
from engine.spec.torc import document

if TYPE_CHECKING:
    from apps.workspaces.libraries.locking import Locked

LONGEST_NAME = 60
FLOW_FILES = (".yaml", ".yml", ".json", ".json5", ".kdl")


def read_path(typed: str) -> tuple[Path, Loaded]:
    """The folder or workflow file, and its contents. Raises AuthorError if it cannot be read."""
    from apps.workspaces.errors import SourceError
    from apps.workspaces.libraries.attaching import attach_here
    from apps.workspaces.reading import Rules, load, rules_here
    from apps.workspaces.sources.single import read_file
    from apps.workspaces.sources.tree import read_folder

    rules = rules_here() if "django" in sys.modules else Rules()

    path = Path(typed).expanduser().resolve()
    if not typed or not path.exists():
        raise AuthorError(
            f"There is nothing at '{plain(typed)}': give the folder of a workspace, or a workflow"
            " file."
        )
    try:
        read = read_file(path) if path.is_file() else read_folder(path)
    except (SourceError, OSError) as error:
        raise AuthorError(f"{plain(typed)} cannot be read: {error}") from error
    attached = attach_here(read, path if path.is_dir() else None)
    tree = attached.tree
    if any(problem.severity == "error" for problem in attached.problems):
        return path, Loaded(None, (*tree.warnings, *attached.problems))
    loaded = load(tree, workspace_name(path), rules=rules)
    if path.is_file() and any(problem.code == "empty" for problem in loaded.problems):
        raise AuthorError(
            f"'{plain(typed)}' is not a workflow file: give one that ends in .yaml or .yml, a Torc"
            " file, or the folder of a workspace."
        )
    return path, replace(loaded, problems=(*tree.warnings, *attached.problems, *loaded.problems))


def lock_libraries(folder: Path, names: Collection[str], *, move_all: bool) -> Locked:
    """See `locking.lock_folder`."""
    from apps.workspaces.libraries.locking import lock_folder

    return lock_folder(folder, names, move_all=move_all)


def refuse_ordinary_file(path: Path, typed: str) -> None:
    """Raises AuthorError for a readable file other than a Torc specification: import its folder."""
    found = document.read(path.name, path.read_bytes())
    if not (path.suffix in FLOW_FILES if found.root is None else found.is_torc):
        raise AuthorError(
            f"{plain(typed)} is a file: give the folder that contains it (only Torc files can be"
            " imported on their own)."
        )


def missing_files(task: Task, directory: Path) -> list[str]:
    """Missing files that a Torc task reads and that none of its steps creates."""
    return [name for name in task.torc.get("required_files", ()) if not (directory / name).exists()]


def workspace_name(path: Path) -> str:
    """A name for the workspace in this folder: the folder's name, with invalid characters
    replaced."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.name).strip("-")[:LONGEST_NAME] or "workspace"
