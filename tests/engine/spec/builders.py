"""Workspaces out of short texts, and what is found in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent

from engine import spec
from engine.spec.model import Loaded, Problem, Workspace

SPECS = Path(__file__).parents[2] / "specs"


def load(text: str, **options: object) -> Loaded:
    """One file `w.yaml`."""
    return spec.load({"w.yaml": dedent(text)}, **options)  # type: ignore[arg-type]


def workspace(text: str, **options: object) -> Workspace:
    loaded = load(text, **options)
    assert loaded.workspace is not None, spec.report(loaded)
    return loaded.workspace


def with_secrets_of(original: Workspace, frozen: Workspace) -> Workspace:
    """A workspace that was frozen, with what freezing leaves out."""
    connections = {
        name: {
            key: original.connections[name][key] if value is None else value
            for key, value in values.items()
        }
        for name, values in frozen.connections.items()
    }
    assert frozen.secrets.keys() == original.secrets.keys()
    return replace(frozen, secrets=original.secrets, connections=connections)


def sentences(text: str, severity: str = "error", **options: object) -> list[str]:
    return [
        problem.message
        for problem in load(text, **options).problems
        if problem.severity == severity
    ]


def only(text: str, **options: object) -> Problem:
    """The one problem of a text that has one."""
    problems = load(text, **options).problems
    assert len(problems) == 1, problems
    return problems[0]
