"""A definition out of a tree of files. Needs no Django: the client validates with it."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path
from typing import Literal

from apps.workspaces import sops
from apps.workspaces.errors import SourceError
from apps.workspaces.sources.tree import SourceFile, Tree
from engine import spec
from engine.spec.model import Loaded, Place, Problem

SPECIFICATIONS = (".json", ".json5", ".kdl")


def load(
    tree: Tree,
    name: str,
    stored_secrets: Container[str] = (),
    *,
    unsafe_templates: Literal["warn", "refuse"] = "warn",
) -> Loaded:
    """The definition in the files of `tree`, with SOPS files decrypted, and all problems."""
    by_path = {file.path: file.content for file in tree.files}
    chosen: dict[str, bytes] = {}
    problems: list[Problem] = []
    aliases = tree.aliases()
    selected = _select(by_path, aliases)
    by_path |= {path: aliases[path].content for path in selected if path in aliases}
    alone = [path for path in by_path if len(by_path) == 1 and Path(path).suffix in SPECIFICATIONS]
    for path in selected or alone:
        try:
            chosen[path] = sops.decrypt(by_path[path]) if sops.is_encrypted(path) else by_path[path]
        except SourceError as error:
            problems.append(Problem(Place(path), "sops", str(error)))
    loaded = spec.load(
        chosen,
        name=name,
        paths=tree.names,
        unsafe_templates=unsafe_templates,
        stored_secrets=stored_secrets,
    )
    if not chosen and not problems:
        message = (
            "the workspace has no workflow files: *.yaml or *.yml, in .workflows/ or beside it"
        )
        problems.append(Problem(Place(), "empty", message, "warning"))
    found = (*problems, *loaded.problems)
    has_errors = any(problem.severity == "error" for problem in found)
    return Loaded(None if has_errors else loaded.workspace, found)


def _select(by_path: Mapping[str, bytes], aliases: Mapping[str, SourceFile]) -> list[str]:
    """The workflow files: each once, by its own name rather than that of a link to it."""
    known = {**by_path, **{path: file.content for path, file in aliases.items()}}
    found = [*spec.select(known), *spec.select_specifications(known)]
    seen = {path for path in found if path in by_path}
    selected = []
    for path in found:
        real = aliases[path].path if path in aliases else path
        if real == path or real not in seen:
            selected.append(path)
        seen.add(real)
    return selected
