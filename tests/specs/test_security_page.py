"""The security page names the tests that hold its statements, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/security.md", "docs/guarantees.md")
TEST = re.compile(r"`(tests/[\w/]+\.py)`")
WITHOUT = {"Security model", "Reporting a vulnerability"}


def sections() -> dict[str, str]:
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    parts = re.split(r"^#+ (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("title", sorted(sections().keys() - WITHOUT))
def test_each_section_names_its_tests(title: str) -> None:
    assert TEST.search(sections()[title])


def test_each_thing_that_is_never_trusted_has_a_test_beside_it() -> None:
    items = re.split(r"^\* ", sections()["What is never trusted"], flags=re.MULTILINE)[1:]
    assert len(items) > 8
    assert [item.splitlines()[0] for item in items if not TEST.search(item)] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_named_tests_are_there(page: str) -> None:
    named = set(TEST.findall((ROOT / page).read_text(encoding="utf-8")))
    assert named
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []
