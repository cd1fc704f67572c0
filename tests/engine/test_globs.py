"""Globs of `artifacts.paths`."""

from __future__ import annotations

import time

import pytest

from engine.globs import find_objection, folder_of, matcher


@pytest.mark.parametrize(
    ("glob", "matching", "others"),
    [
        ("a.txt", ["a.txt"], ["b/a.txt", "aXtxt", "a.txt/b"]),
        ("build/*.jar", ["build/a.jar", "build/.jar"], ["build/x/a.jar", "a.jar", "build/ajar"]),
        ("**/x.txt", ["x.txt", "a/x.txt", "a/b/x.txt"], ["ax.txt", "a/bx.txt"]),
        ("logs/**", ["logs/a", "logs/a/b"], ["log/a", "logs"]),
        ("?.md", ["a.md"], ["ab.md", "/.md"]),
        ("v[0-9].[!x]", ["v1.y"], ["va.y", "v1.x", "v1./"]),
        ("a[b", ["a[b"], ["ab"]),
        ("a+(b)$.t", ["a+(b)$.t"], ["aab.t"]),
    ],
)
def test_what_a_glob_matches(glob: str, matching: list[str], others: list[str]) -> None:
    matches = matcher([glob])
    assert [name for name in matching if not matches(name)] == []
    assert [name for name in others if matches(name)] == []


def test_several_match_together_and_none_matches_nothing() -> None:
    assert matcher(["a", "b/*"])("b/c") and not matcher([])("")


@pytest.mark.parametrize("glob", ["", "/etc/*", "../x", "a/../b", "a//b", "./a", "x" * 201, "a\nb"])
def test_what_is_no_glob(glob: str) -> None:
    assert find_objection(glob) is not None


@pytest.mark.parametrize(
    ("glob", "folder"), [("a/b/*.c", "a/b"), ("*.c", ""), ("a/**/c", "a"), ("a/b", "a")]
)
def test_only_the_folder_before_the_first_wildcard_is_searched(glob: str, folder: str) -> None:
    assert folder_of(glob) == folder


def test_no_glob_takes_long() -> None:
    began = time.process_time()
    assert not matcher(["*a" * 60 + "b"])("a" * 255)
    assert time.process_time() - began < 1
