"""Options with an empty value, on every kind of parser that commands make."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from console.arguments import refuse_empty_values


@pytest.fixture
def parser() -> ArgumentParser:
    made = ArgumentParser()
    made.add_argument("place", nargs="?")
    made.add_argument("--task")
    made.add_argument("--folder", type=Path)
    made.add_argument("--ref", default="")
    made.add_argument("--reason")
    made.add_argument("--input", action="append", default=[])
    made.add_argument("--number", type=int, default=3)
    made.add_argument("--flag", action="store_true")
    inner = made.add_subparsers().add_parser("inner")
    inner.add_argument("--step")
    refuse_empty_values(made)
    return made


@pytest.mark.parametrize(
    "words", [["--task", ""], ["--task="], ["--folder", " "], ["inner", "--step", ""]]
)
def test_an_empty_value_is_refused(
    parser: ArgumentParser, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(words)
    assert ended.value.code == 2
    assert "is empty: give a value, or leave the option out" in capsys.readouterr().err


def test_everything_else_is_as_it_was(parser: ArgumentParser) -> None:
    seen = parser.parse_args(
        ["--folder", "a", "--ref", "", "--reason", "", "--input", "", "--flag"]
    )
    assert (seen.folder, seen.ref, seen.reason, seen.input) == (Path("a"), "", "", [""])
    assert (seen.task, seen.number, seen.flag) == (None, 3, True)
