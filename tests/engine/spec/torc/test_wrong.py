"""What is wrong is said with its line, in whichever notation it stands: the comment above each line
holds the words."""

from __future__ import annotations

import re

import pytest

from engine import spec
from tests.engine.spec.torc.builders import BROKEN, load

FILES = sorted(path for path in BROKEN.iterdir() if path.suffix != ".py")


def expectations(text: str) -> list[tuple[int, str]]:
    """(line, `severity: sentence`) of every `#!` or `//!` comment, which speaks of the next line
    that is none."""
    waiting: list[str] = []
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        comment = re.fullmatch(r"\s*(?:#|//)! (.*)", line)
        if comment:
            waiting.append(comment[1])
        else:
            found += [(number, sentence) for sentence in waiting]
            waiting = []
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_each_broken_line_is_complained_about_in_these_words(path):
    loaded = spec.load({f"x{path.suffix}": path.read_text()})
    found = [
        (problem.place.line, f"{problem.severity}: {problem.message}")
        for problem in loaded.problems
    ]
    assert found and sorted(found) == sorted(expectations(path.read_text()))


@pytest.mark.parametrize(
    ("file", "text", "place", "words"),
    [
        ("a.json", '{"name": "x",\n "jobs": [}', "a.json:2:11", "a value was expected here"),
        ("a.json5", "{name: 'x,\n}", "a.json5:1:8", "not closed on its line"),
        ("a.json5", "{name: 1, name: 2}", "a.json5:1:11", "appears twice (first at a.json5:1:2)"),
        ("a.json5", "/* a\n", "a.json5:1:1", "this comment is never closed"),
        ("a.json5", "{a: 1e999}", "a.json5:1:5", "too large"),
        (
            "a.kdl",
            'name "x"\njob "a" {\n command "b"\n',
            "a.kdl:2:9",
            "the '{' opened here is never closed",
        ),
        ("a.kdl", 'name "x', "a.kdl:1:6", "the quote opened here is never closed"),
        ("a.kdl", 'name "x"\nname "y"', "a.kdl:2:1", "appears twice (first at a.kdl:1:1)"),
        ("a.kdl", 'job "a" { command "b\\q" }', "a.kdl:1:22", "this escape is not known"),
        ("a.kdl", "}", "a.kdl:1:1", "a node was expected here"),
        ("a.kdl", 'job "a" "b" { command "c" }\nname "x"', "a.kdl:1:9", "takes one name"),
        ("a.yaml", "name: x\njobs: []\n", "a.yaml:2:1", "is empty: a specification needs a job"),
        (
            "a.yaml",
            "jobs: [{name: a, command: b}]\n",
            "a.yaml:1:1",
            "Specification is missing 'name'",
        ),
        ("a.yaml", "name: x\njobs: [{name: a, command: b}, {name: [}]", "a.yaml:2:", ""),
    ],
)
def test_what_cannot_be_read_is_said_where_it_stands(file, text, place, words):
    (problem, *_) = load(text, file).errors
    assert str(problem.place).startswith(place) and words in problem.message, str(problem)
