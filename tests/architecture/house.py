"""The house as the checks see it: its rooms, its Python files, and what one parsed file offers to a
rule."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "stroem_project", "stroem", "standalone", "console", "apps", "workers", "runners", "engine"
)  # fmt: skip
EVERYTHING = (*PACKAGES, "tests", "benchmarks", "examples", "manage.py")
HIDDEN = {"migrations", "__pycache__", "node_modules", "var"}


@dataclass(frozen=True)
class Source:
    """One Python file, known by its path below the root of the house (with slashes)."""

    path: str
    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.path.removesuffix(".py").split("/"))

    @property
    def package(self) -> str:
        """The floor: engine, runners, workers, apps, console, standalone, stroem_project, tests."""
        return self.parts[0]

    @property
    def room(self) -> str:
        """For apps/jobs/transitions/pen.py: transitions; the module or folder right inside the
        app."""
        return self.parts[2] if self.package == "apps" and len(self.parts) > 2 else ""

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    def statements(self) -> Iterator[str]:
        """The texts of the .sql files beside it, which one of the modules of a room loads."""
        folder = (ROOT / self.path).parent
        if folder.is_dir():
            yield from (path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql")))

    def calls(self) -> Iterator[ast.Call]:
        return (node for node in self.nodes if isinstance(node, ast.Call))

    def imported(self) -> Iterator[tuple[ast.stmt, str]]:
        """Every imported name, dotted: `from a.b import c` gives a.b.c, `import a.b` gives a.b."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def dotted(node: ast.expr) -> str:
    """`timezone.now` for the expression timezone.now; for a call or an index in front, only what
    follows it."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = dotted(node.value)
        return f"{front}.{node.attr}" if front else node.attr
    return ""


def sources(*tops: str, root: Path = ROOT) -> list[Source]:
    """The Python files below `tops`, migrations left out, in order of their paths."""
    found = []
    for top in tops:
        start = root / top
        for path in [start] if start.is_file() else sorted(start.rglob("*.py")):
            place = path.relative_to(root)
            if not HIDDEN.intersection(place.parts):
                found.append(Source(place.as_posix(), path.read_text(encoding="utf-8")))
    return found
