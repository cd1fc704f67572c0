"""Puts the files of libraries into the tree of the workspace that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from apps.workspaces.errors import LIMIT, LimitError, SourceError
from apps.workspaces.libraries import lock
from apps.workspaces.libraries.fetching import fetch, pin_of
from apps.workspaces.libraries.lock import Pin
from apps.workspaces.sources.tree import Limits, SourceFile, Tree
from engine.spec.draft import Node, Problems, TooManyErrors
from engine.spec.entry import Entry
from engine.spec.libraries import FOLDER, NAME, read_library
from engine.spec.model import Library, Place, Problem, Workspace

# What a library is at its pin, or where there is none now. Raises SourceError.
Find = Callable[[str, Library, Pin | None], Tree]


@dataclass(frozen=True, slots=True)
class Attached:
    tree: Tree
    pins: Mapping[str, Pin] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()  # errors: then no library is in the tree


def attach(tree: Tree, find: Find, limits: Limits = Limits()) -> Attached:  # noqa: B008  (a frozen value)
    """The tree with the files of all libraries that its workflow files name."""
    if any(path.split("/")[0] == FOLDER for path in tree.names):
        message = f"the folder {FOLDER} is for the files of libraries; rename it"
        return Attached(tree, problems=(Problem(Place(FOLDER), "library", message),))
    wanted = libraries_of(tree)
    if not wanted:
        return Attached(tree)
    problems: list[Problem] = []
    try:
        locked = locked_of(tree)
    except SourceError as error:
        return Attached(tree, problems=(Problem(Place(lock_path(tree)), "library", str(error)),))
    trees: dict[str, Tree] = {}
    for name, library in wanted.items():
        try:
            trees[name] = find(name, library, _pin(library, name, locked))
        except SourceError as error:
            code = LIMIT if isinstance(error, LimitError) else "library"
            problems.append(Problem(library.place, code, f"Library '{name}': {error}"))
    if problems:
        return Attached(tree, problems=tuple(problems))
    pins = {name: pin_of(library, trees[name]) for name, library in wanted.items()}
    try:
        return Attached(_joined(tree, trees, limits), pins, _warnings(trees))
    except LimitError as error:
        return Attached(tree, problems=(Problem(Place(), LIMIT, str(error)),))


def libraries_of(tree: Tree) -> dict[str, Library]:
    """Those that the workflow files name; what is wrong with them is reported when all is read."""
    from engine.spec import parser, reader  # most commands read no files

    contents = {file.path: file.content for file in tree.files}
    found: dict[str, Library] = {}
    for path in parser.select(contents):
        if b"libraries" not in contents[path]:
            continue
        root = reader.read(path, contents[path]).root
        if root is None or not isinstance(root.value, dict):
            continue
        node = Entry(root, "Top-level key", Problems()).mapping("libraries")
        if node is not None and isinstance(node.value, dict):
            for name, inner in node.value.items():
                library = _readable(name, inner, node.keys[name])
                if library is not None:
                    found.setdefault(name, library)
    return found


def _readable(name: str, node: Node, place: Place) -> Library | None:
    if not isinstance(node.value, dict) or not NAME.fullmatch(name):
        return None
    problems = Problems()
    try:
        library = read_library(Entry(node, name, problems), place)
    except TooManyErrors:
        return None
    return library if library.is_complete and not problems.has_errors else None


def lock_path(tree: Tree) -> str:
    """Where its lock file is, or would be."""
    from engine.spec.parser import ROOT

    inside = f"{ROOT}/"
    return (inside if any(file.path.startswith(inside) for file in tree.files) else "") + lock.NAME


def locked_of(tree: Tree) -> dict[str, Pin] | None:
    """The pins of its lock file; None without one. Raises SourceError."""
    path = lock_path(tree)
    found = [file.content for file in tree.files if file.path == path]
    return lock.read(found[0], path) if found else None


def _pin(library: Library, name: str, locked: Mapping[str, Pin] | None) -> Pin | None:
    if locked is None:
        return None
    pin = locked.get(name)
    if pin is None:
        raise SourceError(f"{lock.NAME} has no pin for it; add one: `lock FOLDER`")
    if not pin.is_for(library):
        raise SourceError(
            f"{lock.NAME} has a pin for {pin.address} {pin.ref}".rstrip()
            + ", and the files name another source; pin it anew: `lock FOLDER`"
        )
    return pin


def _joined(tree: Tree, trees: Mapping[str, Tree], limits: Limits) -> Tree:
    files, links = list(tree.files), dict(tree.links)
    for name, library in trees.items():
        prefix = f"{FOLDER}/{name}/"
        files += [
            SourceFile(prefix + one.path, one.content, one.is_program) for one in library.files
        ]
        links |= {prefix + path: target for path, target in library.links.items()}
    if len(files) + len(links) > limits.files:
        raise LimitError(f"the workspace and its libraries hold more than {limits.files} files")
    if sum(len(one.content) for one in files) > limits.bytes:
        most = limits.bytes // 1_000_000
        raise LimitError(f"the workspace and its libraries are larger than {most} MB")
    return replace(
        tree,
        files=tuple(sorted(files, key=lambda one: one.path)),
        links={path: links[path] for path in sorted(links)},
    )


def _warnings(trees: Mapping[str, Tree]) -> tuple[Problem, ...]:
    return tuple(
        replace(problem, place=replace(problem.place, file=f"{FOLDER}/{name}/{problem.place.file}"))
        for name, tree in trees.items()
        for problem in tree.warnings
    )


def pinned(definition: Workspace, attached: Attached) -> Workspace:
    """The definition with the pins of its libraries: they become a part of its revision."""
    libraries = {
        name: replace(one, commit=attached.pins[name].commit, tree=attached.pins[name].tree)
        if name in attached.pins
        else one
        for name, one in definition.libraries.items()
    }
    return replace(definition, libraries=libraries)


def attach_here(tree: Tree, root: Path | None) -> Attached:
    """For commands without a server: fetched now, with what this user may read, and nothing is
    kept."""

    def find(name: str, library: Library, pin: Pin | None) -> Tree:
        return fetch(library, pin, root, Limits(), is_local=True)

    return attach(tree, find)
