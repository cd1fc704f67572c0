"""Which files of a folder make up its workspace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from engine.spec import torc

ROOT = ".workflows"
_DEEPEST = 10
_SUFFIXES = (".yaml", ".yml")


def select(paths: Iterable[str]) -> list[str]:
    """The workspace's YAML files among `paths` (relative, with '/'), in the order in which they are
    read.

    Those under `.workflows/` when there is such a folder, else all; at most ten levels below the
    scanned folder. SOPS's own settings file is none of them.
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
    """The files among `contents` that are no YAML and look like specifications of Torc, where YAML
    is looked for."""
    is_inside = any(path.startswith(f"{ROOT}/") for path in contents)
    return [
        path
        for path in sorted(contents, key=lambda path: PurePosixPath(path).parts)
        if torc.is_candidate(path, contents[path])
        and path.startswith(f"{ROOT}/" if is_inside else "")
        and len(PurePosixPath(path).parts) - is_inside <= _DEEPEST
    ]


def infer_folder(file: str) -> str | None:
    """The folder of tasks that stand in `file`: its directory below `.workflows/`, if any."""
    parts = PurePosixPath(file).parts
    if len(parts) > 2 and parts[0] == ROOT:
        return "/".join(parts[1:-1])
    return None
