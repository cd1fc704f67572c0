"""The list of mistakes in tests/specs/mistakes.md: each gets one answer, in these words, with the
line and a caret."""

from __future__ import annotations

import re

import pytest

from engine import spec
from tests.engine.spec.builders import SPECS

LIST = SPECS / "mistakes.md"
FILES = {"w.yaml", "scripts/build.sh"}
_CASE = re.compile(
    r"^## (?P<title>[^\n]+)\n\n```yaml\n(?P<yaml>.*?)```\n\n```text\n(?P<answer>.*?)```$",
    re.MULTILINE | re.DOTALL,
)
CASES = [(case["title"], case["yaml"], case["answer"]) for case in _CASE.finditer(LIST.read_text())]


def answers(text: str) -> list[str]:
    found = spec.load({"w.yaml": text}, paths=FILES).problems
    return [f"{problem}\n{problem.excerpt}".rstrip() for problem in found]


@pytest.mark.parametrize(
    ("text", "answer"), [pytest.param(t, a, id=title) for title, t, a in CASES]
)
def test_a_mistake_gets_this_one_answer(text: str, answer: str):
    assert answers(text) == [answer.rstrip()]


def test_the_list_is_long_and_each_answer_names_the_place():
    assert len(CASES) >= 40
    assert LIST.read_text().count("\n## ") == len(CASES)
    assert all(re.match(r"w\.yaml:\d+:\d+: (error|warning): ", answer) for _, _, answer in CASES)
