"""A workspace as it is typed at `run` and `validate`: a folder, or one file."""

from __future__ import annotations

import re
from pathlib import Path

from engine.errors import AuthorError
from engine.spec.model import Loaded

LONGEST_NAME = 60


def read_path(typed: str) -> tuple[Path, Loaded]:
    """The folder and what its files say. Raises AuthorError when there is nothing to read."""
    from apps.workspaces.errors import SourceError
    from apps.workspaces.services import load
    from apps.workspaces.sources import folder

    path = Path(typed).expanduser().resolve()
    if not path.exists():
        raise AuthorError(f"There is nothing at {typed}: give the folder of a workspace.")
    if not path.is_dir():
        raise AuthorError(f"{typed} is a file: give the folder in which it lies.")
    try:
        tree = folder.read_folder(path)
    except (SourceError, OSError) as error:
        raise AuthorError(f"{typed} cannot be read: {error}") from error
    return path, load(tree, workspace_name(path))


def workspace_name(path: Path) -> str:
    """A name for the workspace in this folder: the folder's own, with what a name may not hold replaced."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.name).strip("-")[:LONGEST_NAME] or "workspace"
