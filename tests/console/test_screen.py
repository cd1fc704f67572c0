"""Colours: for terminals, and only where they are wanted."""

from __future__ import annotations

import io

import pytest

from console.screen import Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(out: io.StringIO, has_colour: bool | None = None) -> str:
    screen = Screen(out, has_colour=has_colour)
    screen.running([("build", 1.0)])
    screen.state("build", "completed")
    screen.close()
    return out.getvalue()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_gets_colours_and_a_status_line() -> None:
    text = shown(Terminal())
    assert "\x1b[32mcompleted" in text and "running: build" in text


def test_a_file_gets_plain_lines() -> None:
    assert shown(io.StringIO()) == "build: completed\n"
    assert "\x1b[32m" in shown(io.StringIO(), has_colour=True)


@pytest.mark.parametrize("value", ["1", "0", "yes"])
def test_no_color_takes_colours_away_and_leaves_the_status_line(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("NO_COLOR", value)
    text = shown(Terminal())
    assert "\x1b[32m" not in text and "running: build" in text


def test_an_empty_no_color_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[32m" in shown(Terminal())


def test_the_option_says_the_same() -> None:
    assert "\x1b[32m" not in shown(Terminal(), has_colour=False)


def test_a_dumb_terminal_gets_no_control_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown(Terminal()) == "build: completed\n"
