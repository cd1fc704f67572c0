"""The workspaces in tests/specs: what is good passes, and each line of what is broken says so, as
written above it."""

from __future__ import annotations

import json
import re

import pytest

from apps.workspaces.libraries.attaching import attach_here
from apps.workspaces.sources.tree import read_folder
from engine import spec
from engine.spec import freeze
from engine.spec.parser import library_of
from tests.engine.spec.builders import SPECS, with_secrets_of

BROKEN = sorted((SPECS / "broken").glob("*.yaml"))
VALID = sorted((SPECS / "valid").glob("*.yaml"))
EXAMPLES = sorted(path for path in (SPECS.parents[1] / "examples").iterdir() if path.is_dir())


def expectations(text: str) -> list[tuple[int, str]]:
    """(line, `severity: sentence`) of every `#!` comment, which speaks of the next line that is
    none."""
    waiting: list[str] = []
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        comment = re.fullmatch(r"\s*#! (.*)", line)
        if comment:
            waiting.append(comment[1])
        else:
            found += [(number, sentence) for sentence in waiting]
            waiting = []
    return found


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_each_broken_line_is_complained_about_in_these_words(path):
    text = path.read_text()
    loaded = spec.load({"x.yaml": text}, name="shop", paths={"scripts/build.sh"})
    found = [
        (problem.place.line, f"{problem.severity}: {problem.message}")
        for problem in loaded.problems
    ]
    assert found and sorted(found) == sorted(expectations(text))


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_good_workspaces_have_no_errors_and_survive_freezing(path):
    loaded = spec.load({"x.yaml": path.read_text()})
    assert loaded.workspace is not None, spec.report(loaded)
    stored = json.loads(json.dumps(freeze.to_json(loaded.workspace), allow_nan=False))
    assert with_secrets_of(loaded.workspace, freeze.workspace_from_json(stored)) == loaded.workspace


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_shipped_examples_are_clean(folder):
    tree = attach_here(read_folder(folder), folder).tree
    paths = {file.path for file in tree.files}
    chosen = {*spec.select(path for path in paths if library_of(path) is None)}
    chosen |= {path for path in paths if library_of(path) and path.endswith(".yaml")}
    files = {file.path: file.content for file in tree.files if file.path in chosen}
    if files:  # a folder of Torc files has none
        assert spec.load(files, name=folder.name, paths=paths).problems == ()
